use crate::groups::GroupTable;
use crate::plan::Pass;

/// The properties of a chunk that a kernel is specialized for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Variant {
    /// Every stream is accessed four elements at a time.
    pub(crate) aligned: bool,
    /// The chunk begins after the start of a binding.
    pub(crate) shifted: bool,
    pub(crate) group_lookup: GroupLookup,
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
    pub(crate) const FIXED: Self = Self { aligned: true, shifted: false, group_lookup: GroupLookup::Uniform };

    /// Every variant of a kernel.
    pub(crate) fn of(pass: Pass) -> Vec<Self> {
        let lookups = match pass {
            Pass::Decide
            | Pass::FactorUpdate
            | Pass::FactorRowMean
            | Pass::SegmentUpdate
            | Pass::MetricsTotal
            | Pass::SamFactors => {
                return vec![Self::FIXED];
            }
            // Partials look up single elements.
            Pass::FactorPartials => &[GroupLookup::Search][..],
            _ => &GroupLookup::ALL,
        };
        let alignments = [(true, false), (true, true), (false, false), (false, true)];
        let alignments = if pass == Pass::FactorPartials { &alignments[2..] } else { &alignments };
        let of_lookup = |&group_lookup: &GroupLookup| {
            alignments.iter().map(move |&(aligned, shifted)| Self { aligned, shifted, group_lookup })
        };
        lookups.iter().flat_map(of_lookup).collect()
    }

    /// The variants that an optimizer with these groups may dispatch.
    pub(crate) fn met(pass: Pass, groups: &GroupTable) -> Vec<Self> {
        let mut variants = Self::of(pass);
        variants.retain(|variant| match variant.group_lookup {
            GroupLookup::Uniform => true,
            GroupLookup::Padded => groups.has_blocks() && groups.only_options().is_some(),
            GroupLookup::Block => groups.has_blocks() && groups.only_options().is_none(),
            // Partials search, whatever the groups are.
            GroupLookup::Search => pass == Pass::FactorPartials || !groups.is_one_span(),
        });
        variants
    }

    /// Short text for labels: `unaligned, shifted, search`.
    pub(crate) fn label(self) -> String {
        let (aligned, shifted) = (if self.aligned { "" } else { "un" }, if self.shifted { "shifted, " } else { "" });
        let lookup = self.group_lookup.file().rsplit('/').next().unwrap_or_default();
        format!("{aligned}aligned, {shifted}{lookup}")
    }
}
