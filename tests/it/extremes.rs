//! Gradients near the limits of f32.

use crate::common::{Trainer, device};
use wgpu_optim::clip::GlobalNorm;
use wgpu_optim::{Layout, Optimizer, Sgd};

#[test]
fn explore() {
    for p in [1.0, 2.0, 2.5, f64::INFINITY] {
        for (value, len, scale, max) in [
            (1.71e38f32, 2usize, 1.0f32, 1.0), (2e38, 2, 1e37, 1.0), (3e38, 7, 1.0, 1.0), (3e38,9000,1e37,1.0),(1e-45, 2, 1.0, 1.2e-38), (1e-45, 9000, 1e-5, 1.2e-38), (1e-40, 40, 1e-9, 1.2e-31), (1e-45,3,1e-30,1e-20),(1e20,3,1.0,1e-20),(3e-38,9,1e30,1.0), (1e30, 1, 1e-30, 1e30),
            (1e-20,5,1e-30,1.0),(3e38,5,1e-37,1.0),
        ] {
            let layout = Layout::flat(len).unwrap();
            let builder = Optimizer::builder(Sgd::default().with_lr(1.0)).clip(GlobalNorm::new(max).with_norm_type(p).exact());
            let grads = vec![value; len];
            let mut cpu_params = vec![0.0; len];
            let mut cpu = builder.clone().build_cpu(&layout).unwrap();
            cpu.set_grad_scale(scale).unwrap();
            let c = cpu.step(&mut cpu_params, &grads).unwrap();
            let mut t = Trainer::new(device::gpu(), builder, &layout, &vec![0.0; len]);
            t.optimizer.set_grad_scale(scale).unwrap();
            let g = t.step(&grads);
            println!("p{p} {value:e}x{len}/{scale:e} max {max:e}: norm {:e} {:e} coef {:e} {:e} param {:e} {:e}", c.grad_norm.unwrap(), g.grad_norm.unwrap(), c.clip_coef, g.clip_coef, cpu_params[0], t.params()[0]);
        }
    }
}
