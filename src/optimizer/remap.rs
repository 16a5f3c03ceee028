//! Rows that move, with their states.

use wgpu::{Buffer, BufferUsages, CommandEncoder};

use super::{Optimizer, move_to_front};
use crate::factors::Factors;
use crate::gpu::{
    BufferRange, KeptRemap, PreparedRemap, RemapBuffers, Remaps, StreamMove, check_usage, is_same, joined, key,
};
use crate::plan::{NewRows, RowStream, RowStreams, RowValues, StepPlan};
use crate::rows::RowTable;
use crate::segments::Segments;
use crate::storage::Dtype;
use crate::{BufferSlices, Error};

const REMAP_COPIES: &str = ", because `remap` copies the old rows first";

/// A table of indices on the device: for each row, the old row that it becomes. See [`Optimizer::remap`].
///
/// | strategy of Gaussian splats (gsplat, Kerbl et al.) | `sources` | state sources | new parameters |
/// |---|---|---|---|
/// | prune | the rows that stay, then any | as `sources` | none |
/// | duplicate | for a clone: its parent | for a clone: -1 | none |
/// | split | for a child: -1 | -1 | the children |
/// | relocate | for a dead row: the row it moves to | for a dead row: itself; for the other: -1 | none |
#[derive(Debug, Clone, Copy)]
pub struct Remap<'a> {
    sources: &'a Buffer,
    state_sources: Option<&'a Buffer>,
    new_params: Option<BufferSlices<'a>>,
}

impl<'a> Remap<'a> {
    /// Row r becomes the old row `sources[r]`; -1 is a new row. A buffer with `STORAGE` usage of one i32 per row of the
    /// capacity or more, read when the remap executes. A row may become any number of rows.
    pub fn new(sources: &'a Buffer) -> Self {
        Self { sources, state_sources: None, new_params: None }
    }

    /// Sets other sources for states and accumulated gradients; -1 is an initial state. States that are parameters
    /// ([`StateSpec::is_param`](crate::rule::StateSpec::is_param)), such as averages, move with the parameters. Default: `sources`.
    #[must_use]
    pub fn with_state_sources(mut self, sources: &'a Buffer) -> Self {
        self.state_sources = Some(sources);
        self
    }

    /// Sets the parameters of new rows, in the flat space: only those of new rows are read. They have `STORAGE` usage, and
    /// share no buffer with the parameters. Default: a new row keeps what the buffer of the parameters holds.
    #[must_use]
    pub fn with_new_params(mut self, params: impl Into<BufferSlices<'a>>) -> Self {
        self.new_params = Some(params.into());
        self
    }
}

impl Optimizer {
    /// Records a move of rows: `params` and all states are moved by a table of indices on the device. Nothing is read back.
    ///
    /// Needs [`OptimizerBuilder::rows`](crate::OptimizerBuilder::rows). Parameters, states of the rule and its transforms, accumulated
    /// gradients and stored training parameters move, those of frozen groups too. Statistics over several rows stay: sums,
    /// norms, the factors of columns.
    ///
    /// Only live rows move. Before the remap, set the number of live rows that it leaves: [`Optimizer::set_live_rows`]. Sources
    /// are any rows of the capacity, also those that were live before.
    ///
    /// An index below -1, or not below the capacity, is invalid: the row keeps its values.
    /// [`Stats::invalid_rows`](crate::Stats::invalid_rows) then is true until the next remap. The states of a new row are initial.
    /// States that are parameters equal the row's parameters. Rules whose first step differs treat the first step of a new
    /// row as a later one, except with [`Rows::with_row_steps`](crate::Rows::with_row_steps): [`Rprop`](crate::Rprop) begins with its minimum
    /// step size there. Step counts of rows move with the states.
    ///
    /// Bind groups of the buffers used last are kept, as those of steps: a remap over known buffers makes no wgpu object.
    /// The first one makes a buffer of 4 bytes per element, which the optimizer keeps. Per element and stream, 16 bytes are
    /// moved. A dropped encoder moves nothing.
    ///
    /// # Errors
    /// [`Error::NoRows`], [`Error::IndexCount`] for short tables, [`Error::MissingUsage`] unless `params` has `STORAGE` and
    /// `COPY_SRC` and tables have `STORAGE`, [`Error::AliasedBuffers`] if a table or new parameters share a buffer with
    /// `params`, [`Error::DeviceLimit`], and those of [`Optimizer::step`] that concern `params`; nothing was recorded then.
    pub fn remap<'a>(
        &mut self,
        encoder: &mut CommandEncoder,
        params: impl Into<BufferSlices<'a>>,
        table: &Remap<'_>,
    ) -> Result<(), Error> {
        let params = params.into();
        self.record_remap(encoder, params, params, table)
    }

    /// As [`Optimizer::remap`], from `params` into `new_params`: `params` stays unchanged. New rows keep what `new_params`
    /// holds by default. States move in place.
    ///
    /// # Errors
    /// Those of [`Optimizer::remap`]. `new_params` needs `STORAGE` alone.
    pub fn remap_to<'a, 'b>(
        &mut self,
        encoder: &mut CommandEncoder,
        params: impl Into<BufferSlices<'a>>,
        new_params: impl Into<BufferSlices<'b>>,
        table: &Remap<'_>,
    ) -> Result<(), Error> {
        self.record_remap(encoder, params.into(), new_params.into(), table)
    }

    fn record_remap(
        &mut self,
        encoder: &mut CommandEncoder,
        params: BufferSlices<'_>,
        new_params: BufferSlices<'_>,
        table: &Remap<'_>,
    ) -> Result<(), Error> {
        if self.remaps.is_none() {
            let rows = self.plan.row_streams()?;
            let lengths = rows.streams.iter().map(|stream| self.ranges_of(stream).last().map_or(0, BufferRange::end));
            let longest = lengths.fold(self.space.len, u64::max);
            let buffers = RemapBuffers::new(&self.device, &rows, longest)?;
            self.remaps = Some(Remaps { rows, buffers, kept: Vec::new() });
        }
        let Some(mut remaps) = self.remaps.take() else { return Ok(()) };
        let result = self.bind_remap(&mut remaps, params, new_params, table);
        if let (Ok(()), Some(KeptRemap { prepared, .. })) = (&result, remaps.kept.first()) {
            let own = &self.resources.persistent;
            let layout = &self.pipelines.uniforms_layout;
            let scalars = (StepPlan::empty_head(), self.plan.groups.lrs(), self.row_words());
            let on = (&self.device, &self.queue);
            let uniforms = self.uniforms.write(on, encoder, layout, &self.resources.powers, scalars);
            self.row_buffers.record_live(encoder, &uniforms, &remaps.buffers.row_tensors);
            prepared.record(encoder, &remaps.buffers, [&own.control, &own.next]);
        }
        self.remaps = Some(remaps);
        result
    }

    /// Puts the prepared remap for these buffers first.
    fn bind_remap(
        &mut self,
        remaps: &mut Remaps,
        params: BufferSlices<'_>,
        new_params: BufferSlices<'_>,
        table: &Remap<'_>,
    ) -> Result<(), Error> {
        let Remaps { rows, buffers, kept } = remaps;
        let given = table.new_params.unwrap_or(BufferSlices::Slices(&[]));
        let lists = [params, new_params, given];
        let has_training_params = !self.training_params.is_empty();
        let is_known = |known: &KeptRemap| {
            known.lists.iter().zip(lists).all(|(known, list)| is_same(known, list))
                && known.sources.each_ref().map(Option::as_ref) == [Some(table.sources), table.state_sources]
                && known.has_training_params == has_training_params
                && known.has_new_params == table.new_params.is_some()
        };
        if move_to_front(kept, is_known) {
            return Ok(());
        }
        let moves = self.stream_moves(rows, params, new_params, table)?;
        let kernel = self.pipelines.remap(&self.plan)?;
        let control = &self.resources.persistent.control;
        let prepared = PreparedRemap::new(&self.device, kernel, (buffers, control), rows, moves)?;
        let sources = [Some(table.sources.clone()), table.state_sources.cloned()];
        let has_new_params = table.new_params.is_some();
        kept.insert(0, KeptRemap { lists: lists.map(key), sources, has_training_params, has_new_params, prepared });
        kept.truncate(self.options.cached_buffer_sets);
        Ok(())
    }

    /// The buffers of each stream, checked.
    fn stream_moves<'a>(
        &self,
        rows: &'a RowStreams,
        params: BufferSlices<'_>,
        new_params: BufferSlices<'_>,
        table: &Remap<'a>,
    ) -> Result<Vec<StreamMove<'a>>, Error> {
        let old = params.ranges("params", Dtype::F32, &self.space)?;
        for range in &old {
            check_usage("params", &range.buffer, BufferUsages::COPY_SRC, REMAP_COPIES)?;
        }
        let new = new_params.ranges("new_params", Dtype::F32, &self.space)?;
        let given = table.new_params.map(|given| given.ranges("parameters of new rows", Dtype::F32, &self.space));
        let given = given.transpose()?.unwrap_or_default();
        let state_sources = table.state_sources.unwrap_or(table.sources);
        for (what, buffer) in [("sources", table.sources), ("state_sources", state_sources)] {
            check_usage(what, buffer, BufferUsages::STORAGE, "")?;
            let (expected, actual) = (rows.capacity as u64, buffer.size() / 4);
            if actual < expected {
                return Err(Error::IndexCount { what, expected, actual });
            }
        }
        let tables = [table.sources, state_sources].map(BufferRange::words);
        let read = [("parameters of new rows", &given[..]), ("sources", &tables[..1]), ("state_sources", &tables[1..])];
        for (first, ranges) in read {
            if ranges.iter().any(|range| new.iter().any(|target| target.buffer == range.buffer)) {
                return Err(Error::AliasedBuffers { first, second: "params" });
            }
        }
        for (what, ranges) in [("params", &old[..]), ("new_params", &new)].into_iter().chain(read) {
            self.resources.check_apart(ranges, what)?;
        }
        for (first, ranges) in &read[1..] {
            // States may lie in buffers of the program.
            if self.resources.persistent.iter().any(|own| ranges.iter().any(|table| table.buffer == *own)) {
                return Err(Error::AliasedBuffers { first, second: "a state of the optimizer" });
            }
        }
        let [old, new] = [&old, &new].map(|ranges| joined(ranges));
        let moved = |stream: &'a RowStream| {
            let own = self.ranges_of(stream);
            let (old, target) = match stream.values {
                RowValues::Params => (old.clone(), new.clone()),
                _ => (own.clone(), own),
            };
            let fresh = match stream.new_rows {
                NewRows::Given => given.clone(),
                NewRows::Params | NewRows::ScaledParams(_) => new.clone(),
                NewRows::Initial(_) => Vec::new(),
            };
            let sources = if stream.is_param { table.sources } else { state_sources };
            StreamMove { stream, old, new: target, fresh, sources }
        };
        Ok(rows.streams.iter().map(moved).filter(|moved| !moved.new.is_empty()).collect())
    }

    /// The ranges of a stream in the optimizer's own buffers.
    fn ranges_of(&self, stream: &RowStream) -> Vec<BufferRange> {
        let own = &self.resources.persistent;
        let part = |buffer: &Option<Buffer>, bytes: Option<std::ops::Range<u64>>| {
            let range = buffer.as_ref().zip(bytes).map(|(buffer, bytes)| BufferRange {
                offset: bytes.start,
                len: (bytes.end - bytes.start) / 4,
                ..BufferRange::words(buffer)
            });
            range.into_iter().filter(|range| range.len > 0).collect()
        };
        let step_bytes = self.plan.groups.rows().and_then(RowTable::step_bytes);
        match stream.values {
            RowValues::Params => Vec::new(),
            RowValues::TrainingParams => self.training_params.clone(),
            RowValues::Accumulated => self.accumulated.clone(),
            RowValues::State(number) => own.states[number].clone(),
            RowValues::Factors => part(&own.factors, self.plan.factors.as_ref().map(Factors::value_bytes)),
            RowValues::RowSteps => part(&own.row_table, step_bytes.map(|[steps, _]| steps)),
            RowValues::RowBiasCorrections => part(&own.row_table, step_bytes.map(|[_, corrections]| corrections)),
            RowValues::SegmentStates => part(&own.segments, self.plan.segments.as_ref().map(Segments::state_bytes)),
        }
    }
}
