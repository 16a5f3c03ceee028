//! `cargo xtask gallery`: the pictures that READMEs show, drawn anew.

use std::fs;
use std::process::ExitCode;

use crate::{cargo, repository};

/// An example that draws, and the files that its own folder keeps.
struct Exhibit {
    example: &'static str,
    features: &'static [&'static str],
    arguments: &'static [&'static str],
    /// The flag of the output, and the name of its file; of a folder without one.
    output: (&'static str, &'static str),
    kept: &'static [&'static str],
}

const FOLDER: (&str, &str) = ("--out", "");

const EXHIBITS: &[Exhibit] = &[
    Exhibit { example: "schedules", features: &[], arguments: &[], output: FOLDER, kept: &["schedules.svg"] },
    // The CPU engine computes the same bits everywhere.
    Exhibit {
        example: "landscape",
        features: &[],
        arguments: &["--device", "cpu"],
        output: FOLDER,
        kept: &["paths.svg", "basins_himmelblau.svg", "race.gif", "races.md"],
    },
    Exhibit {
        example: "lr_finder",
        features: &[],
        arguments: &["--device", "cpu"],
        output: FOLDER,
        kept: &["lr_finder.svg"],
    },
    Exhibit {
        example: "mlp_mnist",
        features: &["plot"],
        arguments: &[
            "--device",
            "cpu",
            "--compare",
            "sgd,momentum,rmsprop,adamw,lion:0.001,nadam,adan",
            "--epochs",
            "3",
        ],
        output: FOLDER,
        kept: &["compare.svg", "compare.md"],
    },
    Exhibit {
        example: "mlp_mnist",
        features: &["plot"],
        arguments: &["--device", "cpu", "--precision", "f16", "--init-scale", "1e9", "--epochs", "1"],
        output: ("--plot", "overflow.svg"),
        kept: &["overflow.svg"],
    },
    Exhibit {
        example: "loss_surface",
        features: &[],
        arguments: &["--device", "cpu"],
        output: FOLDER,
        kept: &["random.svg", "path.svg", "batches.svg"],
    },
    Exhibit {
        example: "loss_surface",
        features: &[],
        arguments: &["sam", "--device", "cpu"],
        output: FOLDER,
        kept: &["sam.svg", "sam_curves.svg"],
    },
    Exhibit {
        example: "splats",
        features: &[],
        arguments: &["--device", "cpu"],
        output: FOLDER,
        kept: &["target.png", "fit.gif", "curves.svg"],
    },
];

/// Draws all; the other files stay in `target/gallery`.
pub(crate) fn run() -> Result<ExitCode, String> {
    for Exhibit { example, features, arguments, output, kept } in EXHIBITS {
        let drawn = repository().join("target/gallery").join(example);
        fs::create_dir_all(&drawn).map_err(|error| format!("{}: {error}", drawn.display()))?;
        let mut command = cargo();
        command
            .args(["run", "--release", "--package", example, "--features", &features.join(","), "--"])
            .args(*arguments);
        command.arg(output.0).arg(drawn.join(output.1)).current_dir(repository());
        let status = command.status().map_err(|error| format!("cannot start cargo: {error}"))?;
        if !status.success() {
            return Err(format!("the example {example} failed: {status}"));
        }
        for file in *kept {
            let shown = repository().join("examples").join(example).join(file);
            fs::copy(drawn.join(file), &shown).map_err(|error| format!("{}: {error}", shown.display()))?;
            println!("drawn: {}", shown.display());
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_there_small_and_shown() {
        for Exhibit { example, kept, .. } in EXHIBITS {
            let folder = repository().join("examples").join(example);
            let readme = fs::read_to_string(folder.join("README.md")).expect(example);
            for file in *kept {
                let bytes = fs::metadata(folder.join(file)).expect(file).len();
                assert!((1..500_000).contains(&bytes), "{file} has {bytes} bytes");
                assert!(readme.contains(&format!("]({file})")), "{file} is not in the README of {example}");
            }
        }
    }
}
