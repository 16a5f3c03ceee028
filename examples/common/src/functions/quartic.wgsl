fn value(p: vec2<f32>) -> f32 {
    return p.x * p.x * p.x * (p.x - 3.0) + 2.0;
}

fn gradient(p: vec2<f32>) -> vec2<f32> {
    return vec2(p.x * p.x * (4.0 * p.x - 9.0), 0.0);
}

fn curvature(p: vec2<f32>) -> vec2<f32> {
    return vec2(p.x * (12.0 * p.x - 18.0), 0.0);
}
