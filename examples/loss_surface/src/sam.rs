//! The ends of SGD and of SAM, from the same parameters over the same batches.

use std::path::PathBuf;

use crate::args::SamArgs;
use crate::curves::Curves;
use crate::sharpness::{Objective, largest_eigenvalue};
use crate::sheet::{Panel, Sheet};
use crate::surface::{Surface, rounded};
use crate::training::{Method, Plan, train};
use crate::{HIDDEN, Losses, Result, first, open};
use examples_common::device::Device;
use examples_common::{files, picture};
use mlp_mnist::data::{CLASSES, Data};
use mlp_mnist::engine::Score;
use mlp_mnist::model::Model;

/// The end of one run.
pub(crate) struct End {
    /// Over the training examples.
    pub(crate) train: Score,
    pub(crate) test: Score,
    /// Of the Hessian of the training loss.
    pub(crate) eigenvalue: f64,
    /// The training loss along random directions.
    pub(crate) surface: Surface,
}

pub(crate) fn run(args: &SamArgs) -> Result<()> {
    let mut data = args.common.load_data()?;
    data.train = first(&data.train, args.examples);
    args.check(data.train.len())?;
    let device = open(&args.common)?;
    let ends = ends(args, &data, &device)?;
    for path in draw(args, &ends)? {
        println!("written: {}", path.display());
    }
    let [sgd, sam] = ends.map(|end| rounded(end.eigenvalue));
    println!("largest eigenvalue: SGD {sgd}, SAM {sam}");
    Ok(())
}

/// Trains with SGD and then with SAM, and measures both.
pub(crate) fn ends(args: &SamArgs, data: &Data, device: &Device) -> Result<[End; 2]> {
    let model = Model::new(&[data.train.pixels, HIDDEN, CLASSES])?;
    let side = args.common.grid as usize;
    let losses = Losses { device, model: &model, examples: data.train.clone(), side };
    let mut objective = Objective::new(&model, &data.train);
    let (epochs, seed) = (args.epochs as usize, args.common.seed);
    let mut end = |name: &str, method| -> Result<End> {
        let plan = Plan { batch_size: args.batch_size, epochs, lr: args.lr, seed, method };
        let trained = train(device, &model, data, &plan)?;
        let (train, test) = (objective.score(trained.parameters()), trained.test);
        if !train.loss().is_finite() {
            return Err(format!("the training loss of {name} is {}; give a smaller --lr", train.loss()).into());
        }
        let eigenvalue = largest_eigenvalue(|at| objective.gradient(at), trained.parameters(), seed);
        let title = format!("{name}: largest eigenvalue {}", rounded(eigenvalue));
        let surface = losses.random(&trained, title, args.common.span, seed)?;
        let end = End { train, test, eigenvalue, surface };
        end.print(name);
        Ok(end)
    };
    Ok([end("SGD", Method::Sgd)?, end("SAM", Method::Sam(args.sam()))?])
}

impl End {
    fn print(&self, name: &str) {
        for (set, score) in [("training", &self.train), ("test", &self.test)] {
            println!("{name}: {set} loss {:.4}, {:.2} % correct", score.loss(), score.accuracy());
        }
        println!("{name}: largest eigenvalue of the Hessian {}", rounded(self.eigenvalue));
        let curve = self.surface.curve();
        let points = (0..=4).map(|i| curve[i * (curve.len() - 1) / 4]);
        let points: Vec<_> = points.map(|(at, loss)| format!("{loss:.4} at {at:.2}")).collect();
        println!("{name}: training loss along a random direction: {}", points.join(", "));
    }
}

pub(crate) fn draw(args: &SamArgs, [sgd, sam]: &[End; 2]) -> Result<Vec<PathBuf>> {
    picture::register_fonts()?;
    let (surfaces, out) = ([&sgd.surface, &sam.surface], &args.common.out);
    let mut written = files::save(&Sheet::new(surfaces.map(Panel::Contours).into()), out, "sam")?.to_vec();
    written.extend(files::save(&Curves(surfaces), out, "sam_curves")?);
    Ok(written)
}
