use crate::Error;
use crate::error::check;

/// Options of an optimizer's history: the steps that it stores, and their metrics.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct HistoryOptions {
    pub(crate) steps: u32,
    #[cfg_attr(feature = "serde", serde(default))]
    pub(crate) norms_every: Option<u32>,
    #[cfg_attr(feature = "serde", serde(default))]
    pub(crate) per_group: bool,
}

impl HistoryOptions {
    /// Stores the statistics of the last `steps` steps, from 1 to 1,000,000. On a device, each step takes 128 bytes and
    /// one copy.
    #[must_use]
    pub fn steps(steps: u32) -> Self {
        Self { steps, norms_every: None, per_group: false }
    }

    /// Samples the metrics in the first of every `steps` steps: [`Stats::param_norm`](super::Stats::param_norm) and the
    /// fields after it. `steps` is 1 or more. Default: never.
    ///
    /// # Performance considerations
    /// A sampled step computes the global norm, and reads parameters, gradients and states a second time: one more
    /// dispatch per chunk, and one that sums the results. With AdamW it moves 48 bytes per parameter instead of 28 (32
    /// with clipping). Sampling one step in 50 adds 1.4 % in total. CPUs are compute-bound: there a sampled step took
    /// 1.9 to 3.9 times as long.
    ///
    /// On a device, each stored step takes 48 bytes more. Slices may be cut only between tensors and at multiples of
    /// 8,192 elements. Rules with sums over segments, and clipping by norms of groups or units, bind one more storage
    /// buffer.
    #[must_use]
    pub fn with_norms_every(mut self, steps: u32) -> Self {
        self.norms_every = Some(steps);
        self
    }

    /// Also samples the metrics of each group of the layout: [`History::groups`](super::History::groups). Requires
    /// [`HistoryOptions::with_norms_every`]. Default: only over all parameters. On a device, each stored step takes 32
    /// bytes more for every group after the first.
    #[must_use]
    pub fn per_group(mut self) -> Self {
        self.per_group = true;
        self
    }

    pub(crate) fn validate(&self) -> Result<(), Error> {
        let steps = self.steps;
        check((1..=1_000_000).contains(&steps), "history", "steps", steps.into(), "1 to 1,000,000")?;
        let Some(every) = self.norms_every else {
            return if self.per_group {
                Err(Error::Unsupported {
                    what: "a history of groups".to_owned(),
                    with: "a history without metrics".to_owned(),
                    remedy: "call `.with_norms_every(steps)` on its options",
                })
            } else {
                Ok(())
            };
        };
        check(every > 0, "history", "norms_every", every.into(), "1 or more")
    }
}

impl From<u32> for HistoryOptions {
    fn from(steps: u32) -> Self {
        Self::steps(steps)
    }
}
