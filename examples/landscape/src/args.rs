//! The command line.

use std::path::PathBuf;

use clap::Parser;

use crate::Result;
use examples_common::device::DeviceName;
use examples_common::functions::{FUNCTIONS, Function};
use examples_common::picture::PALETTE;

/// The most points: one dispatch of 65,535 workgroups takes them.
const MOST_POINTS: i64 = 1 << 20;

/// Descends functions of two variables with every rule from thousands of points, and draws what happens.
#[derive(Debug, Clone, Parser)]
#[command(name = "landscape")]
pub(crate) struct Args {
    /// `rosenbrock`, `beale`, `himmelblau`, `rastrigin`, `saddle`, `quartic`, `square`, or all.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', default_value = "all")]
    function: Vec<String>,

    /// Rules in the table, by their names in configurations; beside them `sgd_momentum` (0.9), `adam_amsgrad`, `adamw_amsgrad`, and all.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', default_value = "all,sgd_momentum")]
    pub(crate) rules: Vec<String>,

    /// Rules in the pictures, six at most, of those in the table; default: well-known ones first.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    show: Vec<String>,

    /// Steps of the race.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) steps: u32,

    /// Starting points, on a square grid: 2304 are 48 by 48.
    #[arg(long, value_name = "N", default_value_t = 2_304, value_parser = clap::value_parser!(u32).range(4..=MOST_POINTS))]
    pub(crate) points: u32,

    /// Folder for the pictures and the table.
    #[arg(long, value_name = "DIR", default_value = "target/landscape")]
    pub(crate) out: PathBuf,

    /// What takes the steps.
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) device: DeviceName,
}

impl Args {
    /// The functions asked for.
    ///
    /// # Errors
    /// An unknown name, with those that are known.
    pub(crate) fn functions(&self) -> Result<Vec<&'static Function>> {
        let mut functions = Vec::new();
        for name in &self.function {
            let named = |function: &&Function| name == "all" || name == function.name;
            let found = functions.len();
            functions.extend(FUNCTIONS.iter().filter(named));
            if functions.len() == found {
                let known = FUNCTIONS.each_ref().map(|function| function.name).join(", ");
                return Err(format!("--function {name}: known are {known}, all").into());
            }
        }
        Ok(functions)
    }

    /// The rules to draw, of those in the race.
    ///
    /// # Errors
    /// A name that is not in the race; more than can be told apart.
    pub(crate) fn shown(&self, names: &[&str]) -> Result<Vec<String>> {
        const KNOWN: [&str; 6] = ["sgd", "sgd_momentum", "adagrad", "rmsprop", "adam", "lion"];
        if self.show.is_empty() {
            let known = KNOWN.iter().filter(|name| names.contains(name));
            let others = names.iter().filter(|name| !KNOWN.contains(name));
            return Ok(known.chain(others).take(KNOWN.len()).map(ToString::to_string).collect());
        }
        if let Some(name) = self.show.iter().find(|name| !names.contains(&name.as_str())) {
            return Err(format!("--show {name}: not in --rules").into());
        }
        // Black is for marks.
        if self.show.len() >= PALETTE.len() {
            return Err(format!("--show has {} rules; give {} at most", self.show.len(), PALETTE.len() - 1).into());
        }
        Ok(self.show.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(flags: &[&str]) -> Args {
        Args::parse_from([&["landscape"], flags].concat())
    }

    #[test]
    fn functions_are_known_by_name() {
        let names = |text| -> Result<Vec<_>> {
            Ok(args(&["--function", text]).functions()?.iter().map(|function| function.name).collect())
        };
        assert_eq!(names("all").expect("all").len(), FUNCTIONS.len());
        assert_eq!(names("saddle,square").expect("two"), ["saddle", "square"]);
        let error = names("rosenbrok").expect_err("unknown").to_string();
        assert!(error.contains("rosenbrok") && error.contains("rosenbrock, beale"), "{error}");
    }

    #[test]
    fn what_is_shown_is_in_the_race_and_can_be_told_apart() {
        let names = ["adan", "lion", "sgd", "yogi"];
        assert_eq!(args(&[]).shown(&names).expect("known ones first"), ["sgd", "lion", "adan", "yogi"]);
        assert_eq!(args(&["--show", "yogi,sgd"]).shown(&names).expect("in order"), ["yogi", "sgd"]);
        assert!(args(&["--show", "adam"]).shown(&names).is_err());
        assert!(args(&["--show", "sgd,sgd,sgd,sgd,sgd,sgd,sgd"]).shown(&names).is_err());
    }
}
