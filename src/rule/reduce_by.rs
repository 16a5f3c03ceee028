/// The segments that sums of a rule, of clipping or of metrics go over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReduceBy {
    /// Each tensor of the layout.
    Tensor,
    /// Each index of a tensor's first dimension: the weights of one unit of a layer. A tensor with fewer than two
    /// dimensions is one unit.
    Unit,
    /// Each group of the layout; the elements without a group are one more.
    Group,
    /// All elements together.
    All,
}
