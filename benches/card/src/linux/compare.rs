//! Other optimizers beside ours, by turns, with `benches/compare`.

use std::path::Path;

use super::args::Args;
use super::child::Invocation;
use super::kit::Kit;
use super::plan::{Prepared, Task};
use super::read::{Reads, text};
use super::results::{Results, Status};

const STAGE: &str = "compare";
/// The task that looks for torch.
const PYTHON: &str = "python";

/// Prints versions as JSON; fails without torch.
const LOOK: &str = "
import importlib, json, sys
try:
    import torch
except Exception as error:
    sys.exit(f'no torch: {error}')
def version(name):
    try:
        return getattr(importlib.import_module(name), '__version__', 'installed')
    except Exception as error:
        return f'none: {type(error).__name__}'
cuda = torch.cuda.is_available()
print(json.dumps({
    'python': sys.version.split()[0], 'torch': torch.__version__, 'apex': version('apex'),
    'bitsandbytes': version('bitsandbytes'), 'kind': 'cuda' if cuda else 'cpu',
    'on': torch.cuda.get_device_name() if cuda else 'the CPU: torch finds no GPU',
}))
";

pub(crate) fn tasks(kit: &Kit, args: &Args, work: &Path) -> Vec<Task> {
    let look = Invocation::new(&args.python, ["-c", LOOK]);
    let mut tasks = vec![Task::of(PYTHON, 30, Reads::Optional, vec![look])];
    let cases: &[&str] = if args.quick {
        &["65536:1"]
    } else {
        &["16777216:1", "67108864:1", "268435456:1", "1048576:1", "16777216:200", "16777216:10000"]
    };
    tasks.extend(cases.iter().map(|case| task(kit, args, work, case)));
    tasks
}

/// One case `ELEMENTS:TENSORS`.
fn task(kit: &Kit, args: &Args, work: &Path, case: &str) -> Task {
    let rows = work.join("compared.json");
    let (script, throughput) = (kit.compare().display().to_string(), kit.program("throughput").display().to_string());
    let (python, to, own) = (args.python.clone(), rows.display().to_string(), case.to_owned());
    let (rounds, seconds) = if args.quick { ("1", "0.05") } else { ("2", "0.4") };
    let prepare = move |results: &Results| {
        let Some(found) = results.get(STAGE, PYTHON).and_then(|found| found.rows.first()) else {
            return match results.get(STAGE, PYTHON).map(|look| look.status) {
                Some(Status::LeftOut) => Prepared::LeftOut("no torch to compare with".to_owned()),
                _ => Prepared::NotRun("the look for torch has not ended".to_owned()),
            };
        };
        let kind = text(found, "kind");
        let words = [&script, kind, "--cases", &own, "--rounds", rounds, "--seconds", seconds];
        let words = [&words[..], &["--throughput", &throughput, "--json", &to]].concat();
        Prepared::Run(vec![Invocation::new(&python, words)])
    };
    Task::new(case, 45, Reads::Compared(rows), prepare)
}
