fn value(p: vec2<f32>) -> f32 {
    return 0.05 * p.x * p.x + 5.0 * p.y * p.y;
}

fn gradient(p: vec2<f32>) -> vec2<f32> {
    return vec2(0.1 * p.x, 10.0 * p.y);
}

fn curvature(p: vec2<f32>) -> vec2<f32> {
    return vec2(0.1, 10.0);
}
