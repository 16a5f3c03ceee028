//! Rows that are born and die while training goes on: Gaussian splats, growing embeddings.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

use crate::error::{check, is_rate};
use crate::projection::Projection;
use crate::{Error, Layout};

/// Maximum columns with a learning rate of their own.
const MAX_COLUMNS: usize = 256;
/// No scale.
const NONE: u32 = u32::MAX;

/// Rows that come and go: see [`OptimizerBuilder::rows`](crate::OptimizerBuilder::rows).
///
/// Every tensor of the layout is `[rows, ...]` with the same number of rows, the capacity. The product of the other
/// dimensions is its number of columns; `[rows]` has one. Two sets of rows are two optimizers.
///
/// - *Live* rows come first. Dead rows behind them are neither read nor written, whatever they hold.
/// - *Visible* rows are those whose bit of a mask is set. The others keep every byte of a step, as parameters without a
///   gradient: they count neither for the norm nor for the finite check.
/// - Bias corrections follow the optimizer's step, as in `torch.optim.SparseAdam`, or each row's own, on request. gsplat's
///   `SelectiveAdam` has none.
/// - An average or [`Lookahead`](crate::Lookahead) begins with the optimizer's first step. A row that is dead then needs a
///   [`remap`](crate::Optimizer::remap) later, or [`Rows::with_row_steps`]; a mask needs the latter.
/// - A learning rate per column: the group's, times a scale that the program may set anew at every step.
/// - Checkpoints hold the options below. Set number of live rows, mask and scales of the present again after loading.
#[must_use]
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct Rows {
    live: Option<u32>,
    has_steps: bool,
    column_lr_scales: Vec<(String, Vec<f32>)>,
    projections: Vec<(String, Projection)>,
}

impl Rows {
    /// Sets the number of live rows before the first step. Default: all.
    pub fn with_live(mut self, rows: u32) -> Self {
        self.live = Some(rows);
        self
    }

    /// Counts the applied steps of each row in which it was live and visible: bias corrections and the rule's `t` follow this
    /// count. Takes 20 bytes per row, and a dispatch per step. Default: the optimizer's step counter, for all rows.
    pub fn with_row_steps(mut self) -> Self {
        self.has_steps = true;
        self
    }

    pub(crate) fn has_steps(&self) -> bool {
        self.has_steps
    }

    /// Scales the learning rate of each column of a tensor, which has at most 256. With a learning rate of 1 the scales are
    /// the rates. The later of two calls counts. Default: no scales.
    pub fn with_column_lr_scales(mut self, tensor: impl Into<String>, scales: impl Into<Vec<f32>>) -> Self {
        let tensor = tensor.into();
        self.column_lr_scales.retain(|(known, _)| *known != tensor);
        self.column_lr_scales.push((tensor, scales.into()));
        self
    }

    /// Adds a projection of a tensor's columns, after those before. Each applied step projects the active rows, in one more
    /// dispatch per tensor and chunk; frozen elements stay. Statistics of changes do not count it. Default: none.
    ///
    /// It follows the rule: averages and [`Lookahead`](crate::Lookahead) would keep what comes before, and are refused.
    pub fn with_projection(mut self, tensor: impl Into<String>, projection: Projection) -> Self {
        self.projections.push((tensor.into(), projection));
        self
    }

    pub(crate) fn has_projections(&self) -> bool {
        !self.projections.is_empty()
    }
}

/// One tensor of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RowTensor {
    /// One past its last element and the padding behind it.
    end: u32,
    start: u32,
    columns: u32,
    /// Number of the first column's scale, or [`NONE`].
    first_scale: u32,
}

/// The place of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowPlace {
    tensor: usize,
    pub(crate) row: u32,
    pub(crate) column: u32,
}

/// The rows of a layout, which of them are active, and the scales of their columns. Its words on the device:
/// `shaders/rows.wgsl`.
#[derive(Debug, Clone)]
pub(crate) struct RowTable {
    rows: u32,
    has_steps: bool,
    names: Vec<String>,
    tensors: Vec<RowTensor>,
    scales: Vec<f32>,
    /// The projections of each tensor.
    projections: Vec<Vec<Projection>>,
    live: u32,
    /// One bit per row; `None`: all rows.
    visible: Option<Vec<u32>>,
}

/// Words before those of the tensors.
const HEADER: usize = 7;
/// Words per tensor.
const TENSOR: usize = 6;

impl RowTable {
    /// # Errors
    /// [`Error::RowCount`] for tensors of different numbers of rows, and those of the setters.
    pub(crate) fn new(layout: &Layout, options: &Rows) -> Result<Self, Error> {
        let capacity = |tensor: &crate::TensorInfo| tensor.shape().first().copied();
        let expected = layout.tensors().first().and_then(capacity);
        let mut table = Self {
            rows: expected.unwrap_or(0) as u32,
            has_steps: options.has_steps,
            names: Vec::new(),
            tensors: Vec::new(),
            scales: Vec::new(),
            projections: vec![Vec::new(); layout.tensors().len()],
            live: 0,
            visible: None,
        };
        let next_starts = layout.tensors().iter().skip(1).map(|tensor| tensor.range().start as u32).chain([u32::MAX]);
        for (tensor, end) in layout.tensors().iter().zip(next_starts) {
            let rows = capacity(tensor);
            if rows.is_none() || rows != expected {
                let (name, shape) = (tensor.name().to_owned(), tensor.shape().to_vec());
                return Err(Error::RowCount { tensor: name, shape, expected: expected.unwrap_or(0) });
            }
            // A tensor without elements has no place.
            let columns = tensor.shape().iter().skip(1).product::<usize>().max(1) as u32;
            let start = tensor.range().start as u32;
            table.names.push(tensor.name().to_owned());
            table.tensors.push(RowTensor { end, start, columns, first_scale: NONE });
        }
        for (name, scales) in &options.column_lr_scales {
            let number = table.number(name)?;
            let first = table.scales.len() as u32;
            if let Some(tensor) = table.tensors.get_mut(number) {
                table.scales.resize(table.scales.len().saturating_add(tensor.columns as usize), 1.0);
                tensor.first_scale = first;
                check_columns(name, tensor.columns as usize)?;
            }
            table.set_scales(name, scales)?;
        }
        for (name, projection) in &options.projections {
            let number = table.number(name)?;
            let columns = table.tensors.get(number).map_or(0, |tensor| tensor.columns);
            projection.validate(name, columns)?;
            table.projections.iter_mut().skip(number).take(1).for_each(|own| own.push(projection.clone()));
        }
        table.set_live(options.live.unwrap_or(table.rows))?;
        Ok(table)
    }

    fn number(&self, tensor: &str) -> Result<usize, Error> {
        let unknown = || Error::UnknownTensor { tensor: tensor.to_owned(), known: self.names.clone() };
        self.names.iter().position(|name| name == tensor).ok_or_else(unknown)
    }

    /// # Errors
    /// [`Error::Hyperparameter`] above the capacity.
    pub(crate) fn set_live(&mut self, rows: u32) -> Result<(), Error> {
        check(rows <= self.rows, "rows", "live", rows.into(), "at most the rows of the layout's tensors")?;
        self.live = rows;
        Ok(())
    }

    pub(crate) fn set_visible(&mut self, visible: Option<&[u32]>) -> Result<(), Error> {
        if let Some(actual) = visible.map(<[u32]>::len).filter(|&actual| actual != self.mask_words()) {
            return Err(Error::MaskLength { expected: self.mask_words(), actual });
        }
        self.visible = visible.map(<[u32]>::to_vec);
        Ok(())
    }

    /// # Errors
    /// [`Error::UnknownTensor`], [`Error::ColumnScales`], [`Error::Hyperparameter`].
    pub(crate) fn set_scales(&mut self, tensor: &str, scales: &[f32]) -> Result<(), Error> {
        let number = self.number(tensor)?;
        let place = self.tensors.get(number).filter(|place| place.first_scale != NONE);
        let columns = place.map_or(0, |place| place.columns as usize);
        if columns != scales.len() {
            return Err(Error::ColumnScales { tensor: tensor.to_owned(), expected: columns, actual: scales.len() });
        }
        for &scale in scales {
            check(is_rate(scale.into()), tensor, "column_lr_scale", scale.into(), "0 or greater, finite")?;
        }
        let first = place.map_or(0, |place| place.first_scale as usize);
        for (own, &scale) in self.scales.iter_mut().skip(first).zip(scales) {
            *own = scale + 0.0;
        }
        Ok(())
    }

    pub(crate) fn rows(&self) -> u32 {
        self.rows
    }

    /// Whether each row has a step count.
    pub(crate) fn has_steps(&self) -> bool {
        self.has_steps
    }

    pub(crate) fn live(&self) -> u32 {
        self.live
    }

    pub(crate) fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// First element, columns and projections of each tensor that has some.
    pub(crate) fn projected(&self) -> impl Iterator<Item = (u32, u32, &[Projection])> {
        let tensors = self.tensors.iter().zip(&self.projections).filter(|(_, own)| !own.is_empty());
        tensors.map(|(tensor, own)| (tensor.start, tensor.columns, &own[..]))
    }

    /// The rows of each tensor with projections that have elements in `start..end`: the tensor's number, and the rows.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a row that lies in there in part, and has a norm.
    #[allow(clippy::arithmetic_side_effects, reason = "the elements are those of a tensor")]
    pub(crate) fn projected_in(&self, start: u32, end: u32) -> Result<Vec<(u32, std::ops::Range<u32>)>, Error> {
        let mut found = Vec::new();
        for (number, (tensor, own)) in self.tensors.iter().zip(&self.projections).enumerate() {
            let last = tensor.start + self.rows * tensor.columns;
            let (from, to) = (start.max(tensor.start), end.min(last));
            if own.is_empty() || from >= to {
                continue;
            }
            let (from, to) = (from - tensor.start, to - tensor.start);
            let is_cut = from % tensor.columns != 0 || to % tensor.columns != 0;
            if is_cut && own.iter().any(|own| matches!(own, Projection::UnitNorm { .. })) {
                return Err(Error::Unsupported {
                    what: "a unit norm of rows".to_owned(),
                    with: format!("a slice or a binding that ends within a row, at element {start} or {end}"),
                    remedy: "give parameters, gradients and states in slices of whole rows, or split the tensor",
                });
            }
            found.push((number as u32, from / tensor.columns..to.div_ceil(tensor.columns)));
        }
        Ok(found)
    }

    /// Words of a mask.
    pub(crate) fn mask_words(&self) -> usize {
        self.rows.div_ceil(32) as usize
    }

    /// The place of an element, which is no padding.
    #[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "the element is one of a tensor")]
    pub(crate) fn place(&self, element: u32) -> RowPlace {
        let tensor = self.tensors.partition_point(|tensor| tensor.end <= element);
        let RowTensor { start, columns, .. } = self.tensors[tensor];
        let offset = element - start;
        RowPlace { tensor, row: offset / columns, column: offset % columns }
    }

    /// Whether a row is live and visible.
    pub(crate) fn is_active(&self, row: u32) -> bool {
        let is_set = |mask: &Vec<u32>| mask.get(row as usize / 32).is_some_and(|word| (word >> (row % 32)) & 1 == 1);
        row < self.live && self.visible.as_ref().is_none_or(is_set)
    }

    /// End of the elements from `from` on, at most `to`, whose rows are all active or all not; and which.
    #[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "the elements are those of a tensor")]
    pub(crate) fn run(&self, from: u32, to: u32) -> (u32, bool) {
        let RowPlace { tensor, row, column } = self.place(from);
        let RowTensor { end, columns, .. } = self.tensors[tensor];
        let is_active = self.is_active(row);
        let (mut row, mut at, to) = (row, from + (columns - column).min(to - from), to.min(end));
        while at < to {
            row += 1;
            if self.is_active(row) != is_active {
                break;
            }
            at += columns.min(to - at);
        }
        (at.min(to), is_active)
    }

    /// End of the elements from `from` on, at most `to`, whose columns have the same scale; and the scale.
    #[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "the elements are those of a tensor")]
    pub(crate) fn column_run(&self, from: u32, to: u32) -> (u32, f32) {
        let place = self.place(from);
        let RowTensor { end, columns, first_scale, .. } = self.tensors[place.tensor];
        let to = to.min(end);
        if first_scale == NONE {
            return (to, 1.0);
        }
        let scales = &self.scales[first_scale as usize..][..columns as usize];
        let scale = scales[place.column as usize];
        let mut at = from + 1;
        while at < to && scales[((place.column + (at - from)) % columns) as usize] == scale {
            at += 1;
        }
        (at, scale)
    }

    /// End of the elements from `from` on, at most `to`, whose rows have the same count in `steps`; and the first row.
    #[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "the elements are those of a tensor")]
    pub(crate) fn step_run(&self, from: u32, to: u32, steps: &[u32]) -> (u32, usize) {
        let RowPlace { tensor, row, column } = self.place(from);
        let RowTensor { end, columns, .. } = self.tensors[tensor];
        let (first, to) = (row as usize, to.min(end));
        let (mut row, mut at) = (first + 1, from + (columns - column).min(to - from));
        while at < to && steps[row] == steps[first] {
            at += columns.min(to - at);
            row += 1;
        }
        (at, first)
    }

    /// The words of the device's table. Scales follow `group_lrs` learning rates.
    #[allow(clippy::arithmetic_side_effects, reason = "a table has fewer words than the layout elements")]
    pub(crate) fn words(&self, group_lrs: usize) -> Vec<u32> {
        let (mask, steps) = (self.first_mask_word(), self.first_step_word());
        let projections = steps + if self.has_steps { 5 * self.rows as usize } else { 0 };
        let header = [self.live as usize, 0, self.tensors.len(), self.rows as usize, mask, steps, projections];
        let mut words: Vec<u32> = header.into_iter().map(|word| word as u32).collect();
        let mut end = 0;
        for (tensor, own) in self.tensors.iter().zip(&self.projections) {
            let RowTensor { end: last, start, columns, first_scale } = *tensor;
            let first_scale = if first_scale == NONE { NONE } else { first_scale + group_lrs as u32 };
            let first = end;
            end += own.len() as u32;
            words.extend([last, start, columns, first_scale, first, end]);
        }
        words.resize(projections, 0);
        words.extend(self.projections.iter().flatten().flat_map(Projection::words));
        words
    }

    fn first_mask_word(&self) -> usize {
        self.tensors.len().saturating_mul(TENSOR).saturating_add(HEADER)
    }

    fn first_step_word(&self) -> usize {
        self.first_mask_word().saturating_add(self.mask_words())
    }

    /// Bytes of the mask in the device's table.
    pub(crate) fn mask_bytes(&self) -> std::ops::Range<u64> {
        bytes(self.first_mask_word(), self.mask_words())
    }

    /// Bytes of the step counts in the device's table, and of the bias corrections behind them; none without.
    pub(crate) fn step_bytes(&self) -> Option<[std::ops::Range<u64>; 2]> {
        let (first, rows) = (self.first_step_word(), self.rows as usize);
        self.has_steps.then(|| [bytes(first, rows), bytes(first.saturating_add(rows), rows.saturating_mul(4))])
    }
}

/// Bytes of words.
fn bytes(first: usize, words: usize) -> std::ops::Range<u64> {
    let byte = |word: usize| (word as u64).saturating_mul(4);
    byte(first)..byte(first.saturating_add(words))
}

fn check_columns(tensor: &str, columns: usize) -> Result<(), Error> {
    if columns <= MAX_COLUMNS {
        return Ok(());
    }
    Err(Error::Unsupported {
        what: format!("a learning rate per column of tensor {tensor:?}, which has {columns}"),
        with: format!("more than {MAX_COLUMNS} columns"),
        remedy: "split the tensor, or give its groups learning rates",
    })
}
