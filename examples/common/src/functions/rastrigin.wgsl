const TAU = 6.283185307179586;

fn value(p: vec2<f32>) -> f32 {
    return 20.0 + p.x * p.x + p.y * p.y - 10.0 * (cos(TAU * p.x) + cos(TAU * p.y));
}

fn gradient(p: vec2<f32>) -> vec2<f32> {
    return 2.0 * p + 10.0 * TAU * sin(TAU * p);
}

fn curvature(p: vec2<f32>) -> vec2<f32> {
    return 2.0 + 10.0 * TAU * TAU * cos(TAU * p);
}
