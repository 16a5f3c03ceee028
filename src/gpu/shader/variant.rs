use crate::plan::{Pass, StepPlan};

/// The properties of a chunk that a kernel is specialized for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Variant {
    /// Every stream is accessed four elements at a time.
    pub(crate) aligned: bool,
    /// The chunk begins after the start of a binding.
    pub(crate) shifted: bool,
    pub(crate) group_lookup: GroupLookup,
    pub(crate) grads: GradBinding,
    /// Moments are f32 here: the chunk holds small tensors, beside others with moments of 8 bits.
    pub(crate) f32_moments: bool,
}

/// The binding of the gradients, in kernels that write parameters. WebGPU allows no buffer that one dispatch binds both
/// read-only and writable, and no writable bindings that overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum GradBinding {
    /// Read-only: parameters and states lie in other buffers.
    Own,
    /// Writable, in the buffer of the parameters or of a state.
    Writable,
    /// Part of the parameters' binding: two bindings would overlap.
    WithParams,
}

/// Lookup of the options of elements. Each variant is a file in `shaders/device/group_lookup`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum GroupLookup {
    /// The chunk lies in one active span: it holds the options.
    Uniform,
    /// All active elements share the options in the chunk. One word per block of 64 counts the active elements.
    Padded,
    /// One word per block of 64 elements holds the index of its span and the count of its active elements.
    Block,
    /// A search through the table of groups.
    Search,
}

impl GroupLookup {
    const ALL: [Self; 4] = [Self::Uniform, Self::Padded, Self::Block, Self::Search];

    pub(super) const fn file(self) -> &'static str {
        match self {
            Self::Uniform => "device/group_lookup/uniform",
            Self::Padded => "device/group_lookup/padded",
            Self::Block => "device/group_lookup/block",
            Self::Search => "device/group_lookup/search",
        }
    }
}

impl Variant {
    /// The variant of kernels that read no chunk.
    pub(crate) const FIXED: Self = Self {
        aligned: true,
        shifted: false,
        group_lookup: GroupLookup::Uniform,
        grads: GradBinding::Own,
        f32_moments: false,
    };

    /// Every variant of a kernel, but for those of small tensors.
    pub(crate) fn of(pass: Pass) -> Vec<Self> {
        let lookups = match pass {
            Pass::Decide
            | Pass::RowSteps
            | Pass::TensorSteps
            | Pass::FactorUpdate
            | Pass::FactorRowMean
            | Pass::SegmentUpdate
            | Pass::MetricsTotal
            | Pass::SamFactors => {
                return vec![Self::FIXED];
            }
            // Partials and projections look up single elements.
            Pass::FactorPartials | Pass::Project => &[GroupLookup::Search][..],
            _ => &GroupLookup::ALL,
        };
        let own = GradBinding::Own;
        let mut bindings = vec![(true, false, own), (true, true, own), (false, false, own), (false, true, own)];
        if matches!(pass, Pass::FactorPartials | Pass::Project) {
            bindings.drain(..2);
        }
        if pass.writes_params() {
            let writable = GradBinding::Writable;
            bindings.extend([(true, true, writable), (false, true, writable), (false, true, GradBinding::WithParams)]);
        }
        let of_lookup = |&group_lookup: &GroupLookup| {
            let f32_moments = false;
            bindings.iter().map(move |&(aligned, shifted, grads)| Self {
                aligned,
                shifted,
                group_lookup,
                grads,
                f32_moments,
            })
        };
        lookups.iter().flat_map(of_lookup).collect()
    }

    /// The variant of a pass over the same chunk: most passes only read.
    pub(crate) fn for_pass(self, pass: Pass) -> Self {
        if pass.writes_params() { self } else { Self { grads: GradBinding::Own, ..self } }
    }

    /// The variants that an optimizer with these groups may dispatch.
    pub(crate) fn met(pass: Pass, plan: &StepPlan) -> Vec<Self> {
        let groups = &plan.groups;
        let mut variants = Self::of(pass);
        variants.retain(|variant| match variant.group_lookup {
            GroupLookup::Uniform => true,
            GroupLookup::Padded => groups.has_blocks() && groups.only_options().is_some(),
            GroupLookup::Block => groups.has_blocks() && groups.only_options().is_none(),
            // Partials and projections search, whatever the groups are.
            GroupLookup::Search => matches!(pass, Pass::FactorPartials | Pass::Project) || !groups.is_one_span(),
        });
        if plan.f32_parts.len() > 0 && variants != [Self::FIXED] {
            variants.extend(variants.clone().into_iter().map(|variant| Self { f32_moments: true, ..variant }));
        }
        variants
    }

    /// Short text for labels: `unaligned, shifted, search, writable gradients`.
    pub(crate) fn label(self) -> String {
        let (aligned, shifted) = (if self.aligned { "" } else { "un" }, if self.shifted { "shifted, " } else { "" });
        let lookup = self.group_lookup.file().rsplit('/').next().unwrap_or_default();
        let grads = match self.grads {
            GradBinding::Own => "",
            GradBinding::Writable => ", writable gradients",
            GradBinding::WithParams => ", gradients bound with parameters",
        };
        let moments = if self.f32_moments { ", f32 moments" } else { "" };
        format!("{aligned}aligned, {shifted}{lookup}{grads}{moments}")
    }
}
