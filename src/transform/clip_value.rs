//! Clipping by value. The CPU engine clamps in [`Grads::clipped`](crate::rule::Grads::clipped), the device in
//! `clip_by_value`.

/// Clamps gradients to `-bound..=bound`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ClipValue {
    pub(crate) bound: f32,
}
