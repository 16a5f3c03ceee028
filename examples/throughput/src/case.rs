//! What is measured: a rule over so many parameters, with or without clipping.

use wgpu_optim::{Clip, GroupOptions, Layout, OptimizerBuilder, RuleConfig};

use crate::Result;

/// Of matrices.
const COLUMNS: usize = 1024;

pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) clip: bool,
    pub(crate) elements: usize,
    pub(crate) tensors: u32,
    pub(crate) layout: Layout,
    pub(crate) groups: u32,
    rule: RuleConfig,
}

impl Case {
    pub(crate) fn new(
        name: &str,
        rule: RuleConfig,
        elements: usize,
        (tensors, groups, clip): (u32, u32, bool),
    ) -> Result<Self> {
        let tensors = tensors.min(elements as u32);
        let groups = groups.min(tensors);
        let mut layout = Layout::builder();
        for tensor in 0..tensors as usize {
            let begin = elements * tensor / tensors as usize;
            let end = elements * (tensor + 1) / tensors as usize;
            // A matrix where it can be, for rules that tell matrices from vectors.
            let (rows, rest) = ((end - begin) / COLUMNS, (end - begin) % COLUMNS);
            let shape = if rest == 0 { vec![rows, COLUMNS] } else { vec![end - begin] };
            layout = layout.tensor(format!("tensor{tensor}"), &shape);
            if groups > 0 {
                layout = layout.group(group(tensor as u32 % groups));
            }
        }
        Ok(Self { name: name.to_owned(), clip, elements, tensors, layout: layout.build()?, groups, rule })
    }

    /// The optimizer to measure.
    pub(crate) fn builder(&self) -> OptimizerBuilder {
        let mut builder = self.rule.clone().builder();
        if self.clip {
            builder = builder.clip(Clip::global_norm(1.0));
        }
        for number in 0..self.groups {
            let options = GroupOptions::default().with_lr_scale(1.0 / f64::from(1 + number));
            builder = builder.group(group(number), options);
        }
        builder
    }

    /// Parameters, gradients and states.
    pub(crate) fn streams(&self) -> usize {
        Self::streams_of(&self.rule)
    }

    pub(crate) fn streams_of(rule: &RuleConfig) -> usize {
        2 + rule.rule().spec().states.iter().filter(|state| state.present).count()
    }

    /// Bytes that the update moves: it reads the gradients, and reads and writes all other streams.
    pub(crate) fn update_bytes(&self) -> u64 {
        4 * self.elements as u64 * (2 * self.streams() as u64 - 1)
    }

    /// Bytes that a step moves: the norm reads the gradients once more, sums over tensors read every stream, and those
    /// over rows and columns the gradients twice.
    pub(crate) fn bytes(&self) -> u64 {
        let rule = self.rule.rule();
        let reduces = rule.reduction().is_some();
        let norm = u64::from(self.clip || reduces);
        let sums = if reduces { self.streams() as u64 } else { 0 };
        let factors = if rule.factored().is_some() { 2 } else { 0 };
        self.update_bytes() + 4 * self.elements as u64 * (norm + sums + factors)
    }

    /// How many copies of all buffers to go round, so that none is in a cache when its turn comes: below 1 Mi elements too
    /// few for the largest caches, since each has to be made.
    pub(crate) fn copies(&self) -> usize {
        /// Several times the caches of today's GPUs and CPUs.
        const ENOUGH: usize = 256 << 20;
        ENOUGH.div_ceil(4 * self.elements * self.streams()).clamp(1, 64)
    }
}

fn group(number: u32) -> String {
    format!("group{number}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(json: &str, clip: bool) -> Case {
        let rule = serde_json::from_str(json).expect(json);
        Case::new("a rule", rule, 1_000, (7, 3, clip)).expect("a layout")
    }

    /// The figures of the README: 28 bytes per parameter for AdamW, 32 with clipping.
    #[test]
    fn bytes_are_those_of_the_passes() {
        let bytes = |json, clip| case(json, clip).bytes() / 1_000;
        assert_eq!(bytes(r#"{"name": "sgd"}"#, false), 12);
        assert_eq!(bytes(r#"{"name": "adamw"}"#, false), 28);
        assert_eq!(bytes(r#"{"name": "adamw"}"#, true), 32);
        assert_eq!(bytes(r#"{"name": "lamb"}"#, false), 28 + 4 + 16);
        assert_eq!(bytes(r#"{"name": "adafactor"}"#, false), 12 + 4 + 8 + 8);
    }

    #[test]
    fn every_element_is_in_a_tensor_and_every_tensor_in_a_group() {
        let case = case(r#"{"name": "sgd"}"#, false);
        let tensors = case.layout.tensors();
        assert_eq!(tensors.iter().map(|tensor| tensor.range().len()).sum::<usize>(), 1_000);
        assert_eq!(tensors[4].group(), Some("group1"));
        case.builder().build_cpu(&case.layout).expect("the groups are the layout's");
        let rule = serde_json::from_str(r#"{"name": "sgd"}"#).expect("a rule");
        let case = Case::new("one element", rule, 1, (7, 3, false)).expect("a layout");
        case.builder().build_cpu(&case.layout).expect("as many groups as tensors");
    }
}
