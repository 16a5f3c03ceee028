//! Planes on both devices, directions, and a whole run.

use clap::Parser;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use wgpu_optim::{Gpu, Sam};

use crate::args::{Args, Command};
use crate::directions::{components, filter_normalised, norm, project};
use crate::plane::Plane;
use crate::training::{Method, Plan, train};
use examples_common::device::Device;
use mlp_mnist::cpu::Network;
use mlp_mnist::data::{CLASSES, Data, Examples, digits};
use mlp_mnist::engine::Score;
use mlp_mnist::model::Model;

/// An odd number of hidden units, so that tensors are padded and workgroups left over.
const HIDDEN: usize = 21;

fn data() -> Data {
    digits::draw_counts(1, 150, 20)
}

fn model(data: &Data) -> Model {
    Model::new(&[data.train.pixels, HIDDEN, CLASSES]).expect("valid")
}

fn devices() -> [Device; 2] {
    let gpu = pollster::block_on(Gpu::new()).expect("these tests need an adapter, a software one will do");
    [Device::Cpu, Device::Gpu(gpu)]
}

/// By the network that trains.
fn score(model: &Model, examples: &Examples, parameters: &[f32]) -> Score {
    let mut network = Network::new(model);
    network.gather(examples, 0..examples.len());
    network.forward(parameters);
    network.cross_entropy()
}

fn trainers_loss(model: &Model, data: &Data, parameters: &[f32]) -> f64 {
    score(model, &data.train, parameters).loss()
}

fn assert_near(losses: &[f32], expected: &[f64]) {
    assert_eq!(losses.len(), expected.len());
    for (loss, expected) in losses.iter().zip(expected) {
        assert!((f64::from(*loss) - expected).abs() < 2e-5 * expected, "{loss} against {expected}");
    }
}

/// Directions with biases too, ranges of two sizes, points on both sides of the origin.
#[test]
fn every_point_has_the_loss_of_its_parameters_on_both_devices() {
    let data = data();
    let model = model(&data);
    let origin = model.initial_parameters(2);
    let directions = [3, 4].map(|seed| model.initial_parameters(seed));
    let plane = Plane { origin: &origin, directions: &directions, ranges: [-1.0..2.0, -0.5..1.0], side: 4 };
    let [columns, rows] = [[-1.0, 0.0, 1.0, 2.0], [-0.5, 0.0, 0.5, 1.0]];
    let expected = rows.iter().flat_map(|b| columns.iter().map(move |a| (a, b))).map(|(a, b)| {
        let values = origin.iter().zip(&directions[0]).zip(&directions[1]);
        let parameters: Vec<f32> = values.map(|((origin, first), second)| origin + a * first + b * second).collect();
        trainers_loss(&model, &data, &parameters)
    });
    let expected: Vec<f64> = expected.collect();
    for device in devices() {
        assert_near(&plane.losses(&device, &model, &data.train).expect("losses"), &expected);
    }
}

/// Around a trained network, where losses go from small to large.
#[test]
fn the_origin_has_the_trained_networks_loss_and_both_devices_agree() {
    let data = data();
    let model = model(&data);
    for device in devices() {
        // 65 steps: the path has every second one, and the last.
        let plan = Plan { batch_size: 32, epochs: 13, lr: 4e-3, seed: 1, method: Method::Adam };
        let trained = train(&device, &model, &data, &plan).expect("trained");
        assert_eq!((trained.path.len(), &trained.path[0]), (34, &model.initial_parameters(1)));
        let test = score(&model, &data.test, trained.parameters());
        assert_near(&[test.loss() as f32], &[trained.test.loss()]);
        let loss = trainers_loss(&model, &data, trained.parameters());
        assert!(loss < 0.5 * trainers_loss(&model, &data, &trained.path[0]), "{loss} after training");
        let directions = filter_normalised(&model, trained.parameters(), 5);
        let plane =
            Plane { origin: trained.parameters(), directions: &directions, ranges: [-1.0..1.0, -1.0..1.0], side: 9 };
        let [cpu, gpu] = devices().map(|device| plane.losses(&device, &model, &data.train).expect("losses"));
        assert_near(&[cpu[40], gpu[40]], &[loss, loss]);
        let wide: Vec<f64> = cpu.iter().map(|&loss| loss.into()).collect();
        assert_near(&gpu, &wide);
        assert!(wide.iter().all(|around| *around > 0.9 * loss) && wide[0] > 2.0 * loss, "{wide:?}");
    }
}

#[test]
fn random_directions_have_the_units_norms_and_leave_biases_alone() {
    let data = data();
    let model = model(&data);
    let parameters = model.initial_parameters(6);
    let [first, second] = filter_normalised(&model, &parameters, 7);
    for direction in [&first, &second] {
        for layer in &model.layers {
            let units =
                |values: &[f32]| values[layer.weight.clone()].chunks_exact(layer.inputs).map(norm).collect::<Vec<_>>();
            for (ours, own) in units(direction).iter().zip(units(&parameters)) {
                assert!((ours - own).abs() < 1e-6 * own, "{ours} against {own}");
            }
            assert!(direction[layer.bias.clone()].iter().all(|value| *value == 0.0));
        }
    }
    let weight = model.layers[0].weight.clone();
    let cosine = first[weight.clone()].iter().zip(&second[weight.clone()]).map(|(a, b)| a * b).sum::<f32>()
        / (norm(&first[weight.clone()]) * norm(&second[weight])) as f32;
    assert!(cosine.abs() < 0.05, "{cosine}");
    assert_ne!(filter_normalised(&model, &parameters, 8)[0], first);
}

/// Points of a plane far from zero, with a little noise around it.
#[test]
fn the_components_are_the_plane_that_was_put_in() {
    const LENGTH: usize = 500;
    let mut rng = StdRng::seed_from_u64(9);
    let unit = |range: std::ops::Range<usize>| -> Vec<f32> {
        (0..LENGTH).map(|i| f32::from(u8::from(range.contains(&i))) / 10.0).collect()
    };
    // 100 elements each, so that they have length 1.
    let (first, second) = (unit(0..100), unit(200..300));
    let places: Vec<[f32; 2]> = (0..30).map(|i| [i as f32 - 20.0, ((i * 7) % 11) as f32 / 2.0]).collect();
    let path: Vec<Vec<f32>> = places
        .iter()
        .map(|[a, b]| {
            let noise = |rng: &mut StdRng| rng.random_range(-1e-3..1e-3);
            (0..LENGTH).map(|i| 3.0 + a * first[i] + b * second[i] + noise(&mut rng)).collect()
        })
        .collect();
    let found = components(&path).expect("a plane");
    for (ours, expected) in found.directions.iter().zip([&first, &second]) {
        assert!((norm(ours) - 1.0).abs() < 1e-5, "{}", norm(ours));
        let cosine: f32 = ours.iter().zip(expected).map(|(a, b)| a * b).sum();
        // The two are not quite uncorrelated along the path.
        assert!(cosine.abs() > 0.999, "{cosine}");
    }
    let [first_share, second_share] = found.shares;
    let variance = |axis: usize| {
        let mean = places.iter().map(|at| f64::from(at[axis])).sum::<f64>() / 30.0;
        places.iter().map(|at| (f64::from(at[axis]) - mean).powi(2)).sum::<f64>()
    };
    let expected = variance(0) / (variance(0) + variance(1));
    assert!((first_share - expected).abs() < 1e-3, "{first_share} against {expected}");
    assert!((first_share + second_share - 1.0).abs() < 1e-4);

    // Distances within the plane are kept.
    let projected = project(&path, &path[29], &found.directions);
    assert!(projected[29].iter().all(|at| *at == 0.0));
    for (ours, place) in projected.iter().zip(&places) {
        let expected = f64::from((place[0] - places[29][0]).hypot(place[1] - places[29][1]));
        assert!((ours[0].hypot(ours[1]) - expected).abs() < 1e-2, "{ours:?} against {expected}");
    }
}

#[test]
fn a_path_on_a_line_is_refused() {
    let line: Vec<Vec<f32>> = (0..5).map(|i| vec![i as f32, 2.0 * i as f32, 1.0]).collect();
    for path in [&line[..], &line[..1]] {
        assert!(components(path).expect_err("no plane").to_string().contains("--epochs"));
    }
}

#[test]
fn a_run_draws_its_pictures_with_their_words() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut args = Args::parse_from(["loss_surface", "--epochs", "2", "--grid", "5", "--examples", "60"]);
    args.common.out = folder.path().into();
    let written = crate::draw(&args, &data(), &Device::Cpu, [32, 75]).expect("drawn");
    assert_eq!(written.len(), 6);
    for (name, words) in [
        ("random", ["batch 32", "% of the test set correct", "loss (nats)"]),
        ("path", ["batch 32", "second principal component", "% of the variance"]),
        ("batches", ["batch 32", "batch 75", "second random direction"]),
    ] {
        let svg = std::fs::read_to_string(folder.path().join(format!("{name}.svg"))).expect("written");
        for word in words {
            assert!(svg.contains(word), "{word} is missing in {name}");
        }
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{name}");
    }
}

#[test]
fn sam_takes_steps_of_its_own_and_both_devices_agree() {
    let data = data();
    let model = model(&data);
    let end = |device: &Device, method| {
        let plan = Plan { batch_size: 32, epochs: 4, lr: 0.05, seed: 1, method };
        train(device, &model, &data, &plan).expect("trained").parameters().to_vec()
    };
    let distance = |a: &[f32], b: &[f32]| norm(&a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<_>>());
    for sam in [Sam::new(0.2), Sam::adaptive(1.0, 0.01)] {
        let [cpu, gpu] = devices().map(|device| end(&device, Method::Sam(sam)));
        let apart = distance(&cpu, &end(&Device::Cpu, Method::Sgd));
        assert!(apart > 0.05 && distance(&cpu, &gpu) < 0.01 * apart, "{apart} from SGD, {}", distance(&cpu, &gpu));
    }
}

#[test]
fn both_ends_are_measured_and_drawn() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let line = ["loss_surface", "sam", "--epochs", "8", "--grid", "5", "--batch-size", "32"];
    let Some(Command::Sam(mut args)) = Args::parse_from(line).command else { panic!("no command") };
    args.common.out = folder.path().into();
    for device in devices() {
        let ends = crate::sam::ends(&args, &data(), &device).expect("measured");
        for end in &ends {
            let (at, loss) = end.surface.curve()[2];
            assert_eq!(at, 0.0);
            assert_near(&[loss as f32], &[end.train.loss()]);
            assert_eq!((end.train.examples, end.test.examples), (150, 20));
            assert!(end.eigenvalue > 0.0, "{}", end.eigenvalue);
        }
        assert_eq!(crate::sam::draw(&args, &ends).expect("drawn").len(), 4);
        for name in ["sam.svg", "sam_curves.svg"] {
            let svg = std::fs::read_to_string(folder.path().join(name)).expect("written");
            for word in ["SGD: largest eigenvalue", "SAM: largest eigenvalue", "loss (nats)", "first random direction"]
            {
                assert!(svg.contains(word), "{word} is missing in {name}");
            }
        }
    }
    args.lr = 1e30;
    let message = crate::sam::ends(&args, &data(), &Device::Cpu).err().expect("diverged").to_string();
    assert!(message.contains("smaller --lr"), "{message}");
}
