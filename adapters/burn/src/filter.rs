use burn::module::{ParamGroup, ParamId};
use wildmatch::WildMatch;

/// A choice of parameters: a pattern for their paths, or burn's [`ParamGroup`].
///
/// The path of a parameter is that of its fields: `layers.0.weight`. In a pattern, `*` stands for any characters, `?` for
/// one; the pattern covers the whole path: `*.bias`, `layers.0.*`. A tied parameter is chosen by any of its paths.
///
/// ```
/// use burn::module::ParamGroup;
/// use wgpu_optim_burn::ParameterFilter;
///
/// let biases = ParameterFilter::from("*.bias");
/// let encoder = ParameterFilter::from(ParamGroup::from_predicate("encoder"));
/// # let _ = (biases, encoder);
/// ```
#[derive(Debug, Clone)]
pub struct ParameterFilter(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Pattern(WildMatch),
    Group(Box<ParamGroup>),
}

impl ParameterFilter {
    pub(crate) fn contains(&self, id: ParamId, path: &str) -> bool {
        match &self.0 {
            Kind::Pattern(pattern) => pattern.matches(path),
            Kind::Group(group) => group.matches(&id, Some(path)),
        }
    }

    /// For error messages.
    pub(crate) fn describe(&self) -> String {
        match &self.0 {
            Kind::Pattern(pattern) => format!("the pattern \"{pattern}\""),
            Kind::Group(group) => format!("{group:?}"),
        }
    }
}

impl From<&str> for ParameterFilter {
    fn from(pattern: &str) -> Self {
        Self(Kind::Pattern(WildMatch::new(pattern)))
    }
}

impl From<ParamGroup> for ParameterFilter {
    fn from(group: ParamGroup) -> Self {
        Self(Kind::Group(Box::new(group)))
    }
}
