use std::borrow::Cow;
use std::fmt::Debug;
use std::ops::Deref;
use std::sync::Arc;

use crate::Error;
use crate::clip::SegmentClip;
use crate::kernels::control::INFINITE;
use crate::rule::{Elements, MeasuredElements, Rule, Segmentation, Step};

const SMALL: f32 = 1.0 / (1u64 << 40) as f32;
const LARGE: f32 = (1u64 << 40) as f32;
const SHRINK: f32 = SMALL * SMALL;
const GROW: f32 = LARGE * LARGE;

impl SegmentClip {
    /// What gradients are multiplied by, one factor after the other; NaN where one of them is.
    pub(crate) fn factors(&self, [small, middle, large, param]: [f32; 4]) -> [f32; 2] {
        let sums = middle.to_bits().max(small.to_bits().max(large.to_bits()));
        if sums > INFINITE {
            return [f32::from_bits(sums), 1.0];
        }
        let (limit, eps) = (self.limit, self.eps);
        let squared = |value: f32| value * value;
        let (has_middle, has_large) = (middle > 0.0, large > 0.0);
        let (sum, unit) = if has_large {
            (large + squared(middle.sqrt() * SHRINK), GROW)
        } else if has_middle {
            (middle + squared(small.sqrt() * SHRINK), 1.0)
        } else {
            (small, SHRINK)
        };
        let root = sum.sqrt();
        let norm = root * unit;
        let (max_norm, divisor, exceeds);
        if self.by_params {
            max_norm = limit * param.sqrt().max(eps);
            divisor = norm.max(1e-6);
            exceeds = norm >= max_norm;
        } else {
            max_norm = limit;
            divisor = norm + eps;
            exceeds = divisor > max_norm;
        }
        if !exceeds {
            return [1.0; 2];
        }
        let shrunk = if has_large { root } else { divisor * SHRINK };
        let coef = if has_large { max_norm / root * SHRINK } else { max_norm / divisor };
        // Devices may take what is below for 0, and none has all of its bits.
        if coef < f32::MIN_POSITIVE { [SHRINK, max_norm / shrunk] } else { [coef, 1.0] }
    }
}

/// Clipping by the norms of segments, around a rule without sums of its own. Twin of `shaders/transform/clip_segment.wgsl`.
#[derive(Debug)]
pub(crate) struct ClippedRule<R> {
    inner: R,
    clip: SegmentClip,
}

impl<R> ClippedRule<R>
where
    R: Deref + Debug + Send + Sync,
    R::Target: Rule,
{
    /// # Errors
    /// [`Error::RuleInterface`] for a rule that has sums itself.
    pub(crate) fn new(inner: R, clip: SegmentClip) -> Result<Self, Error> {
        if !inner.measures().is_empty() {
            let problem = "it sums over tensors itself and cannot be clipped by norms of groups, tensors or units; clip by \
                           global norm or by value";
            return Err(Error::RuleInterface { rule: inner.name().to_owned(), problem: problem.to_owned() });
        }
        Ok(Self { inner, clip })
    }
}

impl<R> Rule for ClippedRule<R>
where
    R: Deref + Debug + Send + Sync,
    R::Target: Rule,
{
    fn name(&self) -> &str {
        self.inner.name()
    }
    fn lr(&self) -> f64 {
        self.inner.lr()
    }
    fn with_cycled_momentum(&self, momentum: f64) -> Option<Arc<dyn Rule>> {
        let inner = self.inner.with_cycled_momentum(momentum)?;
        Some(Arc::new(ClippedRule { inner, clip: self.clip }))
    }
    fn weight_decay(&self) -> f64 {
        self.inner.weight_decay()
    }
    fn maximize(&self) -> bool {
        self.inner.maximize()
    }
    fn states(&self) -> Vec<&str> {
        self.inner.states()
    }
    fn initial_state(&self, state: &str) -> f32 {
        self.inner.initial_state(state)
    }
    fn hyperparameters(&self) -> Vec<(&str, f32)> {
        let mut hyperparameters = self.inner.hyperparameters();
        hyperparameters.extend([("clip_limit", self.clip.limit), ("clip_eps", self.clip.eps)]);
        hyperparameters
    }
    fn constants(&self) -> Vec<(&str, f64)> {
        let mut constants = self.inner.constants();
        constants.push(("clip_by_params", u8::from(self.clip.by_params).into()));
        constants
    }
    fn bias_corrected(&self) -> Vec<f64> {
        self.inner.bias_corrected()
    }
    fn scalars(&self) -> Vec<(&str, f32)> {
        self.inner.scalars()
    }
    fn advance(&self, scalars: &mut [f32; 4], lr: f32, bias_correction: [f32; 4], t: u32) {
        self.inner.advance(scalars, lr, bias_correction, t);
    }
    fn measures(&self) -> Vec<&str> {
        vec!["clip_small", "clip_middle", "clip_large", "clip_param"]
    }
    fn segmentation(&self) -> Segmentation {
        self.clip.segmentation
    }
    fn measure(&self, elements: MeasuredElements<'_>, _step: &Step) {
        elements.without_states().each(
            #[inline(always)]
            move |param, grad, []| {
                let (is_small, is_large) = (grad.abs() < SMALL, grad.abs() > LARGE);
                let small = if is_small { grad * GROW } else { 0.0 };
                let middle = if is_small | is_large { 0.0 } else { grad };
                let large = if is_large { grad * SHRINK } else { 0.0 };
                [small * small, middle * middle, large * large, param * param]
            },
        );
    }
    fn passes(&self) -> Vec<&'static str> {
        self.inner.passes()
    }
    fn update_pass(&self, pass: &str, elements: Elements<'_>, step: &Step) {
        self.inner.update_pass(pass, elements, step);
    }
    fn counts(&self) -> bool {
        self.inner.counts()
    }
    fn count(&self, elements: MeasuredElements<'_>, step: &Step) {
        self.inner.count(elements.clipped(self.clip.factors(step.measured)), step);
    }
    fn validate(&self) -> Result<(), Error> {
        self.inner.validate()
    }
    fn wgsl(&self) -> Cow<'_, str> {
        [&self.inner.wgsl(), include_str!("../../shaders/transform/clip_segment.wgsl")].join("\n").into()
    }
    fn update(&self, elements: Elements<'_>, step: &Step) {
        self.inner.update(elements.clipped(self.clip.factors(step.measured)), step);
    }
}
