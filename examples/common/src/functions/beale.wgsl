fn residuals(p: vec2<f32>) -> vec3<f32> {
    let a = 1.5 - p.x + p.x * p.y;
    let b = 2.25 - p.x + p.x * p.y * p.y;
    let c = 2.625 - p.x + p.x * p.y * p.y * p.y;
    return vec3(a, b, c);
}

fn value(p: vec2<f32>) -> f32 {
    let r = residuals(p);
    return r.x * r.x + r.y * r.y + r.z * r.z;
}

fn gradient(p: vec2<f32>) -> vec2<f32> {
    let r = residuals(p);
    let y2 = p.y * p.y;
    let along_x = r.x * (p.y - 1.0) + r.y * (y2 - 1.0) + r.z * (y2 * p.y - 1.0);
    let along_y = r.x + r.y * (2.0 * p.y) + r.z * (3.0 * y2);
    return vec2(2.0 * along_x, 2.0 * p.x * along_y);
}

fn curvature(p: vec2<f32>) -> vec2<f32> {
    let r = residuals(p);
    let y2 = p.y * p.y;
    let a = p.y - 1.0;
    let b = y2 - 1.0;
    let c = y2 * p.y - 1.0;
    let along_y = p.x * (1.0 + 4.0 * y2 + 9.0 * y2 * y2) + 2.0 * r.y + 6.0 * p.y * r.z;
    return vec2(2.0 * (a * a + b * b + c * c), 2.0 * p.x * along_y);
}
