//! The rules and kinds of clipping whose kernels contain every fragment of the shaders.

use std::sync::Arc;

use wgpu_optim::clip::GlobalNorm;
use wgpu_optim::{Adafactor, Adam, Clip, Rule, Sophia, rule_variants};

pub fn shader_cases() -> Vec<(Arc<dyn Rule>, Option<Clip>)> {
    let global = |norm_type| Some(Clip::from(GlobalNorm::new(1.0).with_norm_type(norm_type)));
    let clips = [global(1.0), global(f64::INFINITY), global(2.5), Some(Clip::value(1.0)), Some(Clip::percentile(10.0))];
    let adafactor: Arc<dyn Rule> = Arc::new(Adafactor::default());
    let clipped = clips.into_iter().map(|clip| (adafactor.clone(), clip));
    let adaptive: (Arc<dyn Rule>, _) = (Arc::new(Sophia::default()), Some(Clip::adaptive(0.01)));
    let by_row: (Arc<dyn Rule>, _) = (Arc::new(Adam::default().with_row_second_moment(true)), None);
    rule_variants().into_iter().map(|rule| (rule, None)).chain(clipped).chain([adaptive, by_row]).collect()
}
