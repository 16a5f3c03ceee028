//! `cargo xtask browser`: the tests that run in Chromium.

use std::fs;
use std::process::{Command, ExitCode};

use clap::Args;

use crate::test::{exit_code, status_of};
use crate::wasm::Toolchain;
use crate::web::{self, BROWSER_TESTS, PLAYGROUND, Server};
use crate::{chromium, repository};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Test the library only: neither the playground nor the documentation is built
    #[arg(long)]
    library: bool,
    /// Passed on to `node --test`, e.g. `--test-name-pattern=lost`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    node_arguments: Vec<String>,
}

/// Installs what is missing, builds the documentation for wasm and the pages, serves them and runs the tests. Without a
/// browser it skips them, and says so.
pub(crate) fn run(options: &Options) -> Result<ExitCode, String> {
    let browser = match chromium::provide_node().and_then(|()| chromium::provide()) {
        Ok(browser) => browser,
        Err(reason) => {
            eprintln!(
                "xtask: SKIPPED: every browser test. {reason} Install Chromium, Node.js and npm, or name a browser's \
                 program: CHROMIUM=/path/to/chrome cargo xtask browser"
            );
            return Ok(ExitCode::SUCCESS);
        }
    };
    let tests = repository().join("tests/browser");
    let status = Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(&tests).status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => return Err(format!("npm ci in {}: {status}", tests.display())),
        Err(error) => return Err(format!("cannot start npm: {error}")),
    }
    let toolchain = Toolchain::provide()?;
    let sites: &[_] = if options.library {
        &[(&BROWSER_TESTS, "BROWSER_TESTS")]
    } else {
        toolchain.document("wgpu-optim", &["webgpu", "safetensors", "serde"])?;
        &[(&BROWSER_TESTS, "BROWSER_TESTS"), (&PLAYGROUND, "PLAYGROUND")]
    };
    web::build(&toolchain, &sites.iter().map(|(site, _)| *site).collect::<Vec<_>>())?;
    let mut node = Command::new("node");
    node.args(["--test", "--test-reporter=spec"]).args(&options.node_arguments);
    for (site, variable) in sites {
        node.env(variable, Server::bind(0)?.serve(site.folder()));
    }
    let files = fs::read_dir(&tests).map_err(|error| format!("{}: {error}", tests.display()))?;
    let files = files.flatten().map(|file| file.file_name()).filter(|name| {
        let name = name.to_string_lossy();
        name.ends_with(".test.mjs") && !(options.library && name.starts_with(PLAYGROUND.package))
    });
    node.args(files.map(|name| tests.join(name)));
    node.env("CHROMIUM", browser);
    status_of(node).map(exit_code)
}
