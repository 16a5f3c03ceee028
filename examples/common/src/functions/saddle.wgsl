fn value(p: vec2<f32>) -> f32 {
    return p.x * p.x - p.y * p.y;
}

fn gradient(p: vec2<f32>) -> vec2<f32> {
    return vec2(2.0 * p.x, -2.0 * p.y);
}

fn curvature(p: vec2<f32>) -> vec2<f32> {
    return vec2(2.0, -2.0);
}
