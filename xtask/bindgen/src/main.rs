//! Writes the scripts and the wasm file that a browser loads: `bindgen INPUT.wasm NAME FOLDER`.

use std::env;
use std::process::ExitCode;

use wasm_bindgen_cli_support::Bindgen;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [input, name, folder] = &arguments[..] else {
        eprintln!("usage: bindgen INPUT.wasm NAME FOLDER");
        return ExitCode::FAILURE;
    };
    let mut bindgen = Bindgen::new();
    // The script knows the name of the wasm file.
    bindgen.input_path(input).out_name(name).typescript(false).omit_default_module_path(false);
    // Names of functions and of the compiler are a third of a file.
    bindgen.remove_name_section(true).remove_producers_section(true);
    let written = bindgen.web(true).and_then(|bindgen| bindgen.generate(folder));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
