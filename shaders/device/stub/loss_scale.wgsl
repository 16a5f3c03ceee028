// Stub for steps whose gradient scale the program sets.

// Bits of the gradient scale in a device buffer; bits of 1.0 if the host gives the scale.
@group(0) @binding(2) var<storage, read> grad_scale: u32;

fn grad_scale_bits() -> u32 {
    return grad_scale;
}

fn update_loss_scale(is_finite: bool) -> f32 {
    return 0.0;
}
