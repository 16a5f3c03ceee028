//! The network: token and position embeddings, pre-norm blocks of causal attention and MLP, and a head that shares the
//! token embedding's weight.

use burn::module::{ModuleVisitor, Param};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{
    Dropout, DropoutConfig, Embedding, EmbeddingConfig, Initializer, LayerNorm, LayerNormConfig, Linear, LinearConfig,
};
use burn::prelude::*;
use burn::tensor::FloatDType;
use burn::tensor::activation::{gelu, softmax};

/// Names of the parameters without weight decay: biases, and scales and shifts of norms.
pub(crate) const NO_DECAY: [&str; 3] = ["bias", "gamma", "beta"];

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct GptConfig {
    /// Different tokens.
    pub(crate) vocabulary: usize,
    /// Tokens that a prediction may look back at.
    pub(crate) context: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) width: usize,
    pub(crate) dropout: f64,
}

#[derive(Module, Debug)]
pub(crate) struct Gpt {
    tokens: Embedding,
    positions: Embedding,
    dropout: Dropout,
    blocks: Vec<Block>,
    norm: LayerNorm,
}

#[derive(Module, Debug)]
struct Block {
    attention_norm: LayerNorm,
    attention: Attention,
    mlp_norm: LayerNorm,
    mlp: Mlp,
}

#[derive(Module, Debug)]
struct Attention {
    /// Queries, keys and values side by side.
    qkv: Linear,
    output: Linear,
    dropout: Dropout,
    heads: usize,
}

#[derive(Module, Debug)]
struct Mlp {
    up: Linear,
    down: Linear,
    dropout: Dropout,
}

impl GptConfig {
    /// Initial weights as GPT-2: N(0, 0.02), smaller where a block adds to the residual stream.
    pub(crate) fn init(&self, device: &Device) -> Gpt {
        let normal = |std| Initializer::Normal { mean: 0.0, std };
        let (inner, outer) = (normal(0.02), normal(0.02 / (2.0 * self.layers as f64).sqrt()));
        let width = self.width;
        let embedding = |count| EmbeddingConfig::new(count, width).with_initializer(inner.clone()).init(device);
        let linear = |inputs, outputs, weight: &Initializer| {
            let mut linear = LinearConfig::new(inputs, outputs).with_initializer(weight.clone()).init(device);
            linear.bias = Some(Initializer::Zeros.init([outputs], device));
            linear
        };
        let norm = || LayerNormConfig::new(width).init(device);
        let dropout = || DropoutConfig::new(self.dropout).init();
        let block = |_| Block {
            attention_norm: norm(),
            attention: Attention {
                qkv: linear(width, 3 * width, &inner),
                output: linear(width, width, &outer),
                dropout: dropout(),
                heads: self.heads,
            },
            mlp_norm: norm(),
            mlp: Mlp {
                up: linear(width, 4 * width, &inner),
                down: linear(4 * width, width, &outer),
                dropout: dropout(),
            },
        };
        let model = Gpt {
            tokens: embedding(self.vocabulary),
            positions: embedding(self.context),
            dropout: dropout(),
            blocks: (0..self.layers).map(block).collect(),
            norm: norm(),
        };
        model.visit(&mut Draw);
        model
    }
}

/// Draws the parameters in their order. burn draws each at its first use.
struct Draw;

impl ModuleVisitor for Draw {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let _ = param.val();
    }
}

impl Gpt {
    /// Logits `[batch, time, vocabulary]` of the token after each of `[batch, time]`.
    pub(crate) fn forward(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        let [batch, time] = tokens.dims();
        let mask = Tensor::<2, Bool>::tril_mask([time, time], 0, &tokens.device()).unsqueeze::<4>();
        let positions = self.positions.weight.val().narrow(0, 0, time).unsqueeze::<3>();
        let mut x = self.dropout.forward(self.tokens.forward(tokens) + positions);
        for block in &self.blocks {
            x = x.clone() + block.attention.forward(block.attention_norm.forward(x), mask.clone());
            x = x.clone() + block.mlp.forward(block.mlp_norm.forward(x));
        }
        let weight = self.tokens.weight.val();
        let [vocabulary, width] = weight.dims();
        let x = self.norm.forward(x).reshape([batch * time, width]);
        x.matmul(weight.transpose()).reshape([batch, time, vocabulary])
    }

    /// Mean cross-entropy of the targets, in nats and f32.
    pub(crate) fn loss(&self, inputs: Tensor<2, Int>, targets: Tensor<2, Int>) -> Tensor<1> {
        let logits = self.forward(inputs);
        let [batch, time, vocabulary] = logits.dims();
        let logits = logits.reshape([batch * time, vocabulary]).cast(FloatDType::F32);
        let loss = CrossEntropyLossConfig::new().init(&logits.device());
        loss.forward(logits, targets.reshape([batch * time]))
    }
}

impl Attention {
    /// `mask` is true where a token must not look: at those after it.
    fn forward(&self, x: Tensor<3>, mask: Tensor<4, Bool>) -> Tensor<3> {
        let [batch, time, width] = x.dims();
        let head_width = width / self.heads;
        let qkv = self.qkv.forward(x).reshape([batch, time, 3 * self.heads, head_width]).swap_dims(1, 2);
        let [queries, keys, values] = [0, 1, 2].map(|part| qkv.clone().narrow(1, part * self.heads, self.heads));
        let scores = queries.matmul(keys.transpose()) / (head_width as f64).sqrt();
        let weights = softmax(scores.mask_fill(mask, f32::NEG_INFINITY), 3);
        let mixed = weights.matmul(values).swap_dims(1, 2).reshape([batch, time, width]);
        self.dropout.forward(self.output.forward(mixed))
    }
}

impl Mlp {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.dropout.forward(self.down.forward(gelu(self.up.forward(x))))
    }
}
