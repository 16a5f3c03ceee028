fn value(p: vec2<f32>) -> f32 {
    return p.x * p.x;
}

fn gradient(p: vec2<f32>) -> vec2<f32> {
    return vec2(2.0 * p.x, 0.0);
}

fn curvature(p: vec2<f32>) -> vec2<f32> {
    return vec2(2.0, 0.0);
}
