fn value(p: vec2<f32>) -> f32 {
    let valley = p.y - p.x * p.x;
    return (1.0 - p.x) * (1.0 - p.x) + 100.0 * valley * valley;
}

fn gradient(p: vec2<f32>) -> vec2<f32> {
    let valley = p.y - p.x * p.x;
    return vec2(-2.0 * (1.0 - p.x) - 400.0 * p.x * valley, 200.0 * valley);
}

fn curvature(p: vec2<f32>) -> vec2<f32> {
    return vec2(2.0 - 400.0 * p.y + 1200.0 * p.x * p.x, 200.0);
}
