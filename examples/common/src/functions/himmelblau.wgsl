fn value(p: vec2<f32>) -> f32 {
    let a = p.x * p.x + p.y - 11.0;
    let b = p.x + p.y * p.y - 7.0;
    return a * a + b * b;
}

fn gradient(p: vec2<f32>) -> vec2<f32> {
    let a = p.x * p.x + p.y - 11.0;
    let b = p.x + p.y * p.y - 7.0;
    return vec2(4.0 * p.x * a + 2.0 * b, 2.0 * a + 4.0 * p.y * b);
}

fn curvature(p: vec2<f32>) -> vec2<f32> {
    let a = p.x * p.x + p.y - 11.0;
    let b = p.x + p.y * p.y - 7.0;
    return vec2(4.0 * a + 8.0 * p.x * p.x + 2.0, 2.0 + 4.0 * b + 8.0 * p.y * p.y);
}
