use std::fmt;

/// One kernel of a step. Its name is that of the files in `shaders/kernels` and `src/kernels`, of the entry point, of the
/// CPU function, and of the label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(clippy::enum_variant_names, reason = "passes are named as their kernels")]
pub(crate) enum Pass {
    /// The norm of all gradients and their finite check, tile by tile.
    GlobalNorm,
    /// Clip coefficient, apply or skip, step counter, bias corrections.
    Decide,
    /// The step count of each row that comes and goes.
    RowSteps,
    /// The steps of each tensor, where gradients may be missing.
    TensorSteps,
    /// Sums of squares over rows and columns.
    FactorPartials,
    /// The factors.
    FactorUpdate,
    /// The mean of each matrix's row factors.
    FactorRowMean,
    /// The rule's sums, part by part.
    SegmentReduce,
    /// The rule's sums, segment by segment, and its tensor state.
    SegmentUpdate,
    /// Metrics of a sampled step, part by part.
    MetricsReduce,
    /// Metrics of a sampled step, segment by segment.
    MetricsTotal,
    /// The update of a decided step.
    Update,
    /// The projections of rows after the update.
    Project,
    /// The whole step in one dispatch.
    UpdateSinglePass,
    /// An auxiliary update of the rule, by its name.
    AuxiliaryUpdate(&'static str),
    /// The sum of the gradients of micro-batches.
    Accumulate,
    /// The norm of the gradients of a perturbation, tile by tile.
    SamNorm,
    /// The factors that scale these gradients.
    SamFactors,
    /// The perturbation of the parameters.
    Perturb,
    /// The way back to the stored parameters.
    RestoreParams,
}

impl Pass {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::GlobalNorm => "global_norm",
            Self::Decide => "decide",
            Self::RowSteps => "row_steps",
            Self::TensorSteps => "tensor_steps",
            Self::FactorPartials => "factor_partials",
            Self::FactorUpdate => "factor_update",
            Self::FactorRowMean => "factor_row_mean",
            Self::SegmentReduce => "segment_reduce",
            Self::SegmentUpdate => "segment_update",
            Self::MetricsReduce => "metrics_reduce",
            Self::MetricsTotal => "metrics_total",
            Self::Update => "update",
            Self::Project => "project",
            Self::UpdateSinglePass => "update_single_pass",
            Self::AuxiliaryUpdate(_) => "auxiliary_update",
            Self::Accumulate => "accumulate",
            Self::SamNorm => "sam_norm",
            Self::SamFactors => "sam_factors",
            Self::Perturb => "perturb",
            Self::RestoreParams => "restore_params",
        }
    }

    /// True for the passes of a perturbation.
    pub(crate) fn is_of_sam(self) -> bool {
        matches!(self, Self::SamNorm | Self::SamFactors | Self::Perturb)
    }

    /// True for sums of whole tiles of the gradients.
    pub(crate) fn sums_tiles(self) -> bool {
        matches!(self, Self::GlobalNorm | Self::SamNorm)
    }

    /// True for sums of parts, which later passes add up.
    pub(crate) fn sums_parts(self) -> bool {
        self.sums_tiles() || matches!(self, Self::SegmentReduce | Self::MetricsReduce)
    }

    /// True for passes that write parameters, or the accumulator in their place, and bind gradients beside them.
    pub(crate) const fn writes_params(self) -> bool {
        matches!(
            self,
            Self::Update
                | Self::UpdateSinglePass
                | Self::AuxiliaryUpdate(_)
                | Self::Accumulate
                | Self::Perturb
                | Self::RestoreParams
        )
    }
}

impl fmt::Display for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AuxiliaryUpdate(name) => write!(f, "auxiliary_update {name}"),
            pass => f.write_str(pass.name()),
        }
    }
}

/// The kind of a step. Together with the plan, it determines the passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum StepKind {
    /// One dispatch per chunk. Requires no global norm and no finite check.
    SinglePass,
    /// A step in which `decide` computes the norm, and applies or skips the update.
    Decided,
    /// A decided step with metrics.
    Sampled,
    /// An auxiliary update of the rule.
    Auxiliary(&'static str),
    /// Adds gradients to the accumulator, which takes the place of the parameters.
    Accumulate,
    /// Moves the parameters along the gradient.
    Perturb,
    /// Restores the stored parameters, which take the place of gradients.
    Restore,
}

impl StepKind {
    pub(crate) fn is_decided(self) -> bool {
        matches!(self, Self::Decided | Self::Sampled)
    }

    /// Whether it counts as a step.
    pub(crate) fn is_step(self) -> bool {
        matches!(self, Self::SinglePass | Self::Decided | Self::Sampled)
    }

    /// True if its kernels bind the states.
    pub(crate) fn has_states(self) -> bool {
        !matches!(self, Self::Accumulate | Self::Perturb | Self::Restore)
    }

    /// True if its passes concern the share alone.
    pub(crate) fn is_of_share(self) -> bool {
        self.has_states() || self == Self::Perturb
    }

    /// True if it sums whole tiles of the gradients.
    pub(crate) fn sums_tiles(self) -> bool {
        self.is_decided() || self == Self::Perturb
    }
}
