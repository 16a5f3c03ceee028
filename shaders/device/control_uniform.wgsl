// The control block as a uniform, for all kernels after `decide`.

import package::kernels::control::{Control};

@group(0) @binding(1) var<uniform> control: Control;
