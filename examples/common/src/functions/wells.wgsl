const SHARP: f32 = 12.0;
const FLAT: f32 = 0.8;

// Depths at the point, of the sharp well and of the flat one.
fn depths(p: vec2<f32>) -> vec2<f32> {
    let sharp = 1.1 * exp(-SHARP * ((p.x + 1.0) * (p.x + 1.0) + p.y * p.y));
    let flattened = exp(-FLAT * ((p.x - 1.0) * (p.x - 1.0) + p.y * p.y));
    return vec2(sharp, flattened);
}

fn value(p: vec2<f32>) -> f32 {
    let d = depths(p);
    return 0.05 * (p.x * p.x + p.y * p.y) - d.x - d.y;
}

fn gradient(p: vec2<f32>) -> vec2<f32> {
    let d = depths(p);
    let along_x = 2.0 * (SHARP * (p.x + 1.0) * d.x + FLAT * (p.x - 1.0) * d.y);
    let along_y = 2.0 * p.y * (SHARP * d.x + FLAT * d.y);
    return vec2(0.1 * p.x + along_x, 0.1 * p.y + along_y);
}

fn bend(d: vec2<f32>, sharp: f32, flattened: f32) -> f32 {
    let of_sharp = 2.0 * SHARP * d.x * (1.0 - 2.0 * SHARP * sharp * sharp);
    return 0.1 + of_sharp + 2.0 * FLAT * d.y * (1.0 - 2.0 * FLAT * flattened * flattened);
}

fn curvature(p: vec2<f32>) -> vec2<f32> {
    let d = depths(p);
    return vec2(bend(d, p.x + 1.0, p.x - 1.0), bend(d, p.y, p.y));
}
