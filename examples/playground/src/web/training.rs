//! The network for JavaScript.

use js_sys::{Float32Array, Promise};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::future_to_promise;

use super::device::{Device, read};
use super::{json, out};
use crate::network::{self, Parameters, Settings, widened};

/// A network in training.
#[wasm_bindgen]
pub struct Training(network::Training);

#[wasm_bindgen]
impl Training {
    /// On drawn digits.
    #[wasm_bindgen(constructor)]
    pub fn new(device: &Device, hidden: usize, settings: &str) -> Result<Training, JsError> {
        let settings = out(Settings::read(settings))?;
        out(network::Training::new(device.gpu().cloned(), network::drawn(), hidden, &settings)).map(Self)
    }

    /// On digits from four IDX files: images and labels for training, then for tests.
    #[allow(clippy::too_many_arguments, reason = "wasm-bindgen passes no arrays of arrays")]
    pub fn from_files(
        device: &Device,
        hidden: usize,
        settings: &str,
        train_images: &[u8],
        train_labels: &[u8],
        test_images: &[u8],
        test_labels: &[u8],
    ) -> Result<Training, JsError> {
        let settings = out(Settings::read(settings))?;
        let data = out(network::from_files([train_images, train_labels, test_images, test_labels]))?;
        out(network::Training::new(device.gpu().cloned(), data, hidden, &settings)).map(Self)
    }

    /// Continues from these parameters with another optimizer.
    pub fn configure(&mut self, settings: &str, parameters: &[f32]) -> Result<(), JsError> {
        let settings = out(Settings::read(settings))?;
        out(self.0.configure(&settings, parameters))
    }

    /// Whether the device is behind: steps would queue up.
    pub fn is_behind(&self) -> bool {
        self.0.is_behind()
    }

    pub fn step(&mut self) -> Result<(), JsError> {
        out(self.0.step())
    }

    /// The numbers of steps that have arrived since the last call, as JSON.
    pub fn points(&mut self) -> Result<String, JsError> {
        json(&out(self.0.points())?)
    }

    /// A promise of the parameters after all steps so far.
    pub fn parameters(&self) -> Promise {
        let (parameters, len) = (self.0.parameters(), self.0.len());
        future_to_promise(async move {
            let numbers = match parameters {
                Parameters::Here(numbers) => numbers,
                Parameters::There(gpu, buffer, dtype) => widened(&out(read(gpu, buffer).await)?, dtype, len),
            };
            Ok(Float32Array::from(&numbers[..]).into())
        })
    }

    /// Loss in nats and accuracy in percent over test images.
    pub fn evaluate(&self, parameters: &[f32]) -> Vec<f64> {
        let score = self.0.evaluate(parameters);
        vec![score.loss(), score.accuracy()]
    }

    /// Probabilities of the ten digits.
    pub fn answer(&self, parameters: &[f32], image: &[u8]) -> Result<Vec<f32>, JsError> {
        out(self.0.answer(parameters, image))
    }

    /// The weights of the first layer, 784 for each hidden unit.
    pub fn first_weights(&self, parameters: &[f32]) -> Vec<f32> {
        parameters[self.0.first_weights()].to_vec()
    }

    pub fn steps_per_epoch(&self) -> usize {
        self.0.steps_per_epoch()
    }

    /// A test image: its pixels, then its label.
    pub fn example(&self, index: usize) -> Vec<u8> {
        let (image, label) = self.0.example(index);
        [image, &[label]].concat()
    }
}
