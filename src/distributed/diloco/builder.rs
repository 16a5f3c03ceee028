use super::fragment::Fragment;
use super::{DiLoCo, wire};
use crate::error::{check, check_len};
use crate::layout::TensorInfo;
use crate::rules::Sgd;
use crate::storage::Dtype;
use crate::{Error, Layout, Optimizer, OptimizerBuilder};

/// The division of the tensors into fragments, which are exchanged at steps of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fragments {
    /// All tensors together.
    #[default]
    One,
    /// So many runs of tensors in the order of the layout, with about equally many elements.
    Count(usize),
    /// The tensors of each group, in the order of the layout; those without a group are one more fragment.
    Groups,
}

/// The settings of [`DiLoCo`]: see [`DiLoCo::builder`].
#[must_use]
#[derive(Debug, Clone)]
pub struct DiLoCoBuilder {
    every: u64,
    outer: OptimizerBuilder,
    fragments: Fragments,
    delay: u64,
    local_weight: f32,
    dtype: Dtype,
}

impl DiLoCoBuilder {
    pub(super) fn new(every: u64) -> Self {
        let outer = Optimizer::builder(Sgd::default().with_lr(0.7).with_momentum(0.9).with_nesterov(true));
        Self { every, outer, fragments: Fragments::One, delay: 0, local_weight: 0.0, dtype: Dtype::F32 }
    }

    /// Sets the outer optimizer. Each fragment has one of its own. Options of groups do not apply. Default: SGD with lr 0.7
    /// and Nesterov momentum 0.9.
    pub fn outer(mut self, outer: OptimizerBuilder) -> Self {
        self.outer = outer;
        self
    }

    /// Divides the tensors into fragments. Of n fragments, number `i` is merged at the steps `⌊(i + 1)·H/n⌋` of each cycle of
    /// H steps, counted from 1. Default: [`Fragments::One`].
    pub fn fragments(mut self, fragments: Fragments) -> Self {
        self.fragments = fragments;
        self
    }

    /// Sets the steps between an exchange and its merge (τ), below H. The difference is that of the earlier step. The exchange
    /// still blocks. Default 0.
    pub fn delay(mut self, steps: u64) -> Self {
        self.delay = steps;
        self
    }

    /// Sets the weight α of this rank's own parameters when it merges: `(1 - α)·global + α·local`, from 0 to 1. Default 0.
    pub fn local_weight(mut self, alpha: f32) -> Self {
        self.local_weight = alpha;
        self
    }

    /// Sets the format of differences and means on the wire: [`Dtype::F32`], [`Dtype::Bf16`], or codes of 8 bits
    /// ([`Dtype::Dynamic8`], [`Dtype::Companded8`]). What rounding takes from a difference is added to the next one, and this
    /// takes 4 bytes per parameter. Default: f32.
    pub fn wire_dtype(mut self, dtype: Dtype) -> Self {
        self.dtype = dtype;
        self
    }

    /// Begins with the parameters of all ranks. `params` holds [`Layout::len`] elements.
    ///
    /// Keeps the parameters of the last outer step and the outer optimizer's states: 8 bytes per parameter by default.
    ///
    /// # Errors
    /// [`Error::Hyperparameter`] for an `every` of 0, a delay of `every` or more, a weight outside 0..=1, and a count of 0 or of
    /// more than the tensors; [`Error::Unsupported`] for other formats; [`Error::LengthMismatch`]; those of
    /// [`OptimizerBuilder::build_cpu`] for the outer optimizer.
    pub fn build(self, layout: &Layout, params: &[f32]) -> Result<DiLoCo, Error> {
        const OWNER: &str = "DiLoCo";
        let Self { every, outer, fragments, delay, local_weight, dtype } = self;
        check_len("params", layout.len(), params.len())?;
        check(every >= 1, OWNER, "every", every as f64, "1 or more")?;
        check(delay < every, OWNER, "delay", delay as f64, "below `every`")?;
        check((0.0..=1.0).contains(&local_weight), OWNER, "local_weight", local_weight.into(), "from 0 to 1")?;
        if !wire::is_supported(dtype) {
            return Err(Error::Unsupported {
                what: format!("the wire format {dtype:?}"),
                with: "DiLoCo".to_owned(),
                remedy: "choose F32, Bf16, Dynamic8 or Companded8",
            });
        }
        let precision = &outer.settings.precision;
        let formats = [precision.params.dtype(), precision.grads];
        if formats != [Dtype::F32; 2] {
            return Err(Error::Unsupported {
                what: format!("an outer optimizer with {:?} parameters and {:?} gradients", formats[0], formats[1]),
                with: "DiLoCo, whose parameters and differences are f32".to_owned(),
                remedy: "leave `.precision(...)` and `.grad_dtype(...)` of its builder out, or set states alone",
            });
        }
        let parts = match fragments {
            Fragments::One => vec![layout.tensors().iter().collect()],
            Fragments::Count(count) => {
                let allowed = "from 1 to the number of tensors";
                check((1..=layout.tensors().len()).contains(&count), OWNER, "fragments", count as f64, allowed)?;
                runs(layout.tensors(), count)
            }
            Fragments::Groups => groups(layout.tensors()),
        };
        let count = parts.len() as u128;
        let fragment = |(number, tensors): (usize, &Vec<&TensorInfo>)| {
            let offset = (number as u128 + 1) * u128::from(every) / count;
            Fragment::new(tensors, offset as u64, outer.clone(), params)
        };
        let fragments = parts.iter().enumerate().map(fragment).collect::<Result<_, _>>()?;
        let (len, steps, exchanges, joins) = (layout.len(), 0, 0, false);
        Ok(DiLoCo { every, delay, local_weight, dtype, len, steps, exchanges, joins, fragments })
    }
}

/// Cuts the tensors into so many runs: each ends where the elements so far come nearest to its share of all, and leaves a
/// tensor for each that follows.
fn runs(tensors: &[TensorInfo], count: usize) -> Vec<Vec<&TensorInfo>> {
    let elements = |tensor: &TensorInfo| tensor.range().len() as u128;
    let all: u128 = tensors.iter().map(elements).sum();
    let (mut runs, mut rest, mut before) = (Vec::with_capacity(count), tensors, 0);
    for number in 1..=count {
        let mut len = if number == count { rest.len() } else { 1 };
        before += rest[..len].iter().map(elements).sum::<u128>();
        while len < rest.len() - (count - number)
            && 2 * (before * count as u128) + elements(&rest[len]) * count as u128 <= 2 * all * number as u128
        {
            before += elements(&rest[len]);
            len += 1;
        }
        let run;
        (run, rest) = rest.split_at(len);
        runs.push(run.iter().collect());
    }
    runs
}

/// The tensors of each group.
fn groups(tensors: &[TensorInfo]) -> Vec<Vec<&TensorInfo>> {
    let mut groups: Vec<Vec<&TensorInfo>> = Vec::new();
    for tensor in tensors {
        match groups.iter_mut().find(|group| group.iter().any(|other| other.group() == tensor.group())) {
            Some(group) => group.push(tensor),
            None => groups.push(vec![tensor]),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(lens: &[usize]) -> Layout {
        let tensor =
            |layout: crate::LayoutBuilder, (number, &len): (usize, &usize)| layout.tensor(number.to_string(), &[len]);
        lens.iter().enumerate().fold(Layout::builder(), tensor).build().unwrap()
    }

    fn lens(runs: &[Vec<&TensorInfo>]) -> Vec<Vec<usize>> {
        runs.iter().map(|run| run.iter().map(|tensor| tensor.range().len()).collect()).collect()
    }

    #[test]
    fn runs_have_about_equally_many_elements() {
        for (tensors, count, expected) in [
            (&[1, 1, 1, 1][..], 2, vec![vec![1, 1], vec![1, 1]]),
            (&[6, 1, 1, 1], 2, vec![vec![6], vec![1, 1, 1]]),
            (&[1, 1, 1, 6], 2, vec![vec![1, 1, 1], vec![6]]),
            (&[9, 1, 1], 3, vec![vec![9], vec![1], vec![1]]),
            (&[1, 1, 9], 3, vec![vec![1], vec![1], vec![9]]),
            (&[0, 0], 2, vec![vec![0], vec![0]]),
            (&[3, 4], 1, vec![vec![3, 4]]),
        ] {
            assert_eq!(lens(&runs(layout(tensors).tensors(), count)), expected, "{tensors:?} {count}");
        }
    }

    #[test]
    fn groups_are_fragments_in_the_order_of_the_layout() {
        let layout = Layout::builder().tensor("a", &[1]).tensor("b", &[2]).group("x").tensor("c", &[3]);
        let layout = layout.tensor("d", &[4]).group("x").build().unwrap();
        assert_eq!(lens(&groups(layout.tensors())), [[1, 3], [2, 4]]);
    }
}
