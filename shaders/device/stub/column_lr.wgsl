// Stub for optimizers without a learning rate per column.

fn column_lr(lr: vec4<f32>, index: u32) -> vec4<f32> {
    return lr;
}
