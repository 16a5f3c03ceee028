// Collects a batch out of the data set on the device: x[row] = images[order[first + row]] / 255, and its label.

override PIXELS: u32;

struct Batch {
    first: u32,
    rows: u32,
}

@group(0) @binding(0) var<uniform> batch: Batch;

// Four pixels in a word, each image padded to whole words.
@group(1) @binding(0) var<storage, read> images: array<u32>;
@group(1) @binding(1) var<storage, read> labels: array<u32>;
// The examples' numbers in the order of this epoch.
@group(1) @binding(2) var<storage, read> order: array<u32>;
@group(1) @binding(3) var<storage, read_write> x: array<f32>;
@group(1) @binding(4) var<storage, read_write> y: array<u32>;

@compute @workgroup_size(64)
fn gather(@builtin(global_invocation_id) id: vec3<u32>) {
    let words = (PIXELS + 3u) / 4u;
    let word = id.x;
    let row = id.y;
    if word >= words || row >= batch.rows {
        return;
    }
    let example = order[batch.first + row];
    let four = images[example * words + word];
    for (var i = 0u; i < 4u; i++) {
        let pixel = word * 4u + i;
        if pixel < PIXELS {
            x[row * PIXELS + pixel] = f32((four >> (8u * i)) & 0xffu) / 255.0;
        }
    }
    if word == 0u {
        y[row] = labels[example];
    }
}
