//! Transforms of gradients around any rule.

mod clip_segment;

pub(crate) use clip_segment::ClippedRule;
