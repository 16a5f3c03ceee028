//! The network over slices of host memory, with the CPU engine as its optimizer.

#[cfg(feature = "program")]
use std::{fs::File, io::BufReader, path::Path};

#[cfg(feature = "program")]
use wgpu_optim::checkpoint::{Checkpoint, Loaded};
use wgpu_optim::{CpuOptimizer, Precision};

use crate::Result;
use crate::data::{Data, Examples};
#[cfg(feature = "program")]
use crate::engine::load_options;
use crate::engine::{Batches, Engine, Report, Score};
use crate::gemm::{Matrix, multiply};
use crate::model::Model;
use examples_common::numbers::{Number, Numbers, with_vector};

/// Forward and backward pass; the CPU reference of the kernels in `shaders/`.
pub struct Network<'a> {
    model: &'a Model,
    rows: usize,
    labels: Vec<u8>,
    /// The input of every layer and, last, the logits; each `[rows, size]`.
    activations: Vec<Vec<f32>>,
    /// The gradient of the loss by each layer's output.
    deltas: Vec<Vec<f32>>,
}

impl<'a> Network<'a> {
    pub fn new(model: &'a Model) -> Self {
        let layers = model.layers.len();
        Self {
            model,
            rows: 0,
            labels: Vec::new(),
            activations: vec![Vec::new(); layers + 1],
            deltas: vec![Vec::new(); layers],
        }
    }

    /// Takes the batch: pixels as 0 to 1.
    pub fn gather(&mut self, examples: &Examples, indices: impl Iterator<Item = usize>) {
        self.labels.clear();
        self.activations[0].clear();
        for index in indices {
            self.labels.push(examples.labels[index]);
            self.activations[0].extend(examples.image(index).iter().map(|&pixel| f32::from(pixel) / 255.0));
        }
        self.rows = self.labels.len();
        for (layer, (activation, delta)) in
            self.model.layers.iter().zip(self.activations[1..].iter_mut().zip(&mut self.deltas))
        {
            activation.resize(self.rows * layer.outputs, 0.0);
            delta.resize(self.rows * layer.outputs, 0.0);
        }
    }

    pub fn forward<P: Number>(&mut self, parameters: &[P]) {
        for (index, layer) in self.model.layers.iter().enumerate() {
            let (before, after) = self.activations.split_at_mut(index + 1);
            let (x, y) = (&before[index], &mut after[0]);
            let weight = Matrix::new(&parameters[layer.weight.clone()], layer.outputs, layer.inputs);
            multiply(Matrix::new(x, self.rows, layer.inputs), weight.transposed(), y);
            let bias = &parameters[layer.bias.clone()];
            for row in y.chunks_exact_mut(layer.outputs) {
                for (y, &bias) in row.iter_mut().zip(bias) {
                    *y += bias.into();
                    if layer.relu {
                        *y = y.max(0.0);
                    }
                }
            }
        }
    }

    /// What [`Network::forward`] has computed: `[rows, classes]`.
    pub fn logits(&self) -> &[f32] {
        self.activations.last().map_or(&[], Vec::as_slice)
    }

    /// Softmax cross-entropy of the logits; leaves the gradient of its mean for [`Network::backward`].
    pub fn cross_entropy(&mut self) -> Score {
        let classes = self.model.layers.last().map_or(0, |layer| layer.outputs);
        let (Some(logits), Some(delta)) = (self.activations.last(), self.deltas.last_mut()) else {
            return Score::default();
        };
        let mut score = Score { examples: self.rows as u64, ..Score::default() };
        let rows = logits.chunks_exact(classes).zip(delta.chunks_exact_mut(classes));
        for ((logits, delta), &label) in rows.zip(&self.labels) {
            let label = usize::from(label);
            let mut predicted = 0;
            for (j, &logit) in logits.iter().enumerate() {
                if logit > logits[predicted] {
                    predicted = j;
                }
            }
            // The largest logit is subtracted, so that exp cannot overflow.
            let largest = logits[predicted];
            let sum: f32 = logits.iter().map(|logit| (logit - largest).exp()).sum();
            for (j, (delta, logit)) in delta.iter_mut().zip(logits).enumerate() {
                let softmax = (logit - largest).exp() / sum;
                *delta = (softmax - f32::from(u8::from(j == label))) / self.rows as f32;
            }
            score.loss_sum += f64::from(sum.ln() + (largest - logits[label]));
            score.correct += u64::from(predicted == label);
        }
        score
    }

    /// Multiplies the gradient that [`Network::cross_entropy`] has left.
    pub fn scale_loss(&mut self, scale: f32) {
        self.deltas.last_mut().into_iter().flatten().for_each(|delta| *delta *= scale);
    }

    /// Fills `grads` with the gradient of the mean loss by every parameter; the padding stays as it is.
    pub fn backward<P: Number, G: Number>(&mut self, parameters: &[P], grads: &mut [G]) {
        for (index, layer) in self.model.layers.iter().enumerate().rev() {
            let (before, after) = self.deltas.split_at_mut(index);
            let (x, dy) = (&self.activations[index], &after[0]);
            let (x_matrix, dy_matrix) =
                (Matrix::new(x, self.rows, layer.inputs), Matrix::new(dy, self.rows, layer.outputs));
            multiply(dy_matrix.transposed(), x_matrix, &mut grads[layer.weight.clone()]);
            let mut sums = vec![0.0; layer.outputs];
            for row in dy.chunks_exact(layer.outputs) {
                for (sum, dy) in sums.iter_mut().zip(row) {
                    *sum += dy;
                }
            }
            for (grad, sum) in grads[layer.bias.clone()].iter_mut().zip(sums) {
                *grad = G::nearest(sum);
            }
            if let Some(dx) = before.last_mut() {
                let weight = Matrix::new(&parameters[layer.weight.clone()], layer.outputs, layer.inputs);
                multiply(dy_matrix, weight, dx);
                for (dx, &x) in dx.iter_mut().zip(x) {
                    if x <= 0.0 {
                        *dx = 0.0;
                    }
                }
            }
        }
    }
}

pub struct CpuEngine<'a> {
    network: Network<'a>,
    pub optimizer: CpuOptimizer,
    data: &'a Data,
    batches: Batches,
    order: Vec<u32>,
    pub parameters: Numbers,
    pub grads: Numbers,
    score: Score,
    reports: Vec<Report>,
}

impl<'a> CpuEngine<'a> {
    /// `precision` is that of the optimizer.
    pub fn new(
        model: &'a Model,
        data: &'a Data,
        optimizer: CpuOptimizer,
        precision: &Precision,
        batch_size: usize,
        parameters: &[f32],
    ) -> Result<Self> {
        Ok(Self {
            network: Network::new(model),
            optimizer,
            data,
            batches: Batches { len: data.train.len(), size: batch_size },
            order: Vec::new(),
            grads: Numbers::nearest(precision.grads, &vec![0.0; parameters.len()])?,
            parameters: Numbers::nearest(precision.params.dtype(), parameters)?,
            score: Score::default(),
            reports: Vec::new(),
        })
    }

    /// Fills `grads` with the gradient of one batch, times the loss scale, and adds its score.
    pub fn gradients(&mut self, batch: usize) {
        let indices = &self.order[self.batches.first(batch)..][..self.batches.rows(batch)];
        self.network.gather(&self.data.train, indices.iter().map(|&index| index as usize));
        with_vector!(&self.parameters, parameters => self.network.forward(parameters));
        self.score.add(&self.network.cross_entropy());
        if let Some(scale) = self.optimizer.loss_scale() {
            self.network.scale_loss(scale);
        }
        with_vector!(&self.parameters, parameters => {
            with_vector!(&mut self.grads, grads => self.network.backward(parameters, grads));
        });
    }
}

impl Engine for CpuEngine<'_> {
    fn begin_epoch(&mut self, order: &[u32]) {
        self.order.clear();
        self.order.extend_from_slice(order);
    }

    fn perturb(&mut self, batch: usize) -> Result<()> {
        self.gradients(batch);
        Ok(self.optimizer.perturb(self.parameters.as_mut(), self.grads.as_slice())?)
    }

    fn step(&mut self, batch: usize, report: bool) -> Result<()> {
        self.gradients(batch);
        let stats = self.optimizer.step(self.parameters.as_mut(), self.grads.as_slice())?;
        if report {
            self.reports.push(Report { score: std::mem::take(&mut self.score), stats });
        }
        Ok(())
    }

    fn reports(&mut self, _wait: bool) -> Result<Vec<Report>> {
        Ok(std::mem::take(&mut self.reports))
    }

    #[cfg(feature = "program")]
    fn save(&self, path: &Path) -> Result<()> {
        Ok(self.optimizer.save(path, Some(self.parameters.as_slice()))?)
    }

    #[cfg(feature = "program")]
    fn load(&mut self, checkpoint: &mut Checkpoint<BufReader<File>>) -> Result<Loaded> {
        Ok(self.optimizer.load_from(checkpoint, Some(self.parameters.as_mut()), &load_options())?)
    }

    fn evaluate(&mut self) -> Result<Score> {
        let batches = Batches { len: self.data.test.len(), size: 1_000 };
        let mut score = Score::default();
        for batch in 0..batches.count() {
            let first = batches.first(batch);
            self.network.gather(&self.data.test, first..first + batches.rows(batch));
            with_vector!(&self.parameters, parameters => self.network.forward(parameters));
            score.add(&self.network.cross_entropy());
        }
        Ok(score)
    }
}
