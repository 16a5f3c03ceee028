//! The structure of the sources: layers whose imports point down, and shaders that mirror the Rust.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use crate::common::repository;

/// The modules of the crate's root, lowest first: a module imports from those above it in this list.
const LAYERS: &[&str] = &[
    "storage",
    "error",
    "nonfinite",
    "tile",
    "simd",
    "parallel",
    "layout",
    "schedule",
    "clip",
    "rule",
    "segments",
    "groups",
    "factors",
    "transform",
    "kernels",
    "rules",
    "metrics",
    "plan",
    "gpu",
    "cpu",
    "optimizer",
    "builder",
    "config",
    "verify",
];

/// All files below a folder with that extension, relative to the folder, without the extension.
fn files(folder: &str, extension: &str) -> Vec<String> {
    let (base, mut found, mut open) = (repository().join(folder), Vec::new(), vec![repository().join(folder)]);
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                let relative = path.with_extension("");
                found.push(relative.strip_prefix(&base).unwrap().to_str().unwrap().replace('\\', "/"));
            }
        }
    }
    found.sort();
    found
}

/// The source without comments and without its unit tests.
fn code(path: &str) -> String {
    let text = fs::read_to_string(repository().join("src").join(path).with_extension("rs")).unwrap();
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The names in `a::{b, c::{d}}, e` up to the first `;`, each with the first segment of its path.
fn first_segments(imports: &str) -> Vec<String> {
    let (mut depth, mut name, mut names) = (0, String::new(), Vec::new());
    for letter in imports.chars() {
        match letter {
            ';' => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(std::mem::take(&mut name)),
            _ if depth == 0 => name.push(letter),
            _ => {}
        }
    }
    names.push(name);
    let first = |name: String| name.split("::").next().unwrap_or_default().trim().to_owned();
    names.into_iter().map(first).filter(|name| !name.is_empty()).collect()
}

/// Names that follow `crate::` in a source: one per path, and each of a list in braces.
fn imports(code: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(list) = rest.strip_prefix('{') {
            names.extend(first_segments(list.split("};").next().unwrap()));
        } else {
            names.push(rest.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect());
        }
    }
    names
}

/// The module of each name that the crate's root exports.
fn exports() -> BTreeMap<String, String> {
    let root = code("lib");
    let mut exports = BTreeMap::new();
    for export in root.split("pub use ").skip(1) {
        let Some((module, names)) = export.split(';').next().unwrap().split_once("::") else { continue };
        for name in names.split([',', '{', '}', ':']) {
            exports.insert(name.trim().to_owned(), module.to_owned());
        }
    }
    exports
}

#[test]
fn imports_point_down() {
    let exports = exports();
    let layer = |name: &str| LAYERS.iter().position(|layer| *layer == name);
    let (mut arrows, mut wrong) = (0, Vec::new());
    for file in files("src", "rs").iter().filter(|file| !matches!(file.as_str(), "lib" | "rules/docs")) {
        let module = file.split('/').next().unwrap();
        let own = layer(module).unwrap_or_else(|| panic!("src/{file}.rs: add the module {module} to LAYERS"));
        for name in imports(&code(file)) {
            let exported = exports.get(&name).map(String::as_str);
            // Names of the rules come from `pub use rules::*`.
            let target = layer(&name).or_else(|| exported.map_or(layer("rules"), layer));
            if name == module || target == Some(own) || exported == Some("wgpu") {
                continue;
            }
            arrows += 1;
            if target.is_none_or(|target| target > own) {
                wrong.push(format!("src/{file}.rs imports crate::{name}, which does not lie below {module}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(arrows > 100, "{arrows} imports: the search finds too few");
}

/// A shader lies where the Rust that computes the same lies, under the same name. `device` holds what only shaders need.
#[test]
fn shaders_mirror_the_rust() {
    let (rust, shaders) = (files("src", "rs"), files("shaders", "wgsl"));
    for shader in shaders.iter().filter(|shader| !shader.starts_with("device/")) {
        assert!(rust.contains(shader), "shaders/{shader}.wgsl has no src/{shader}.rs");
    }
    let without_shader = ["rules/custom", "rules/declare", "rules/docs", "rules/registry", "rules/adam/equations"];
    let rooms = ["kernels/", "rules/", "transform/", "storage/"];
    for file in rust.iter().filter(|file| rooms.iter().any(|room| file.starts_with(room))) {
        let has_shader = shaders.contains(file);
        assert_ne!(has_shader, without_shader.contains(&file.as_str()), "src/{file}.rs and shaders/{file}.wgsl");
    }
}

#[test]
fn imports_are_read_as_rust_reads_them() {
    let code = "use crate::{Error, gpu::{a, b}, x::y};\nfn f() { crate::tile::g(); }";
    assert_eq!(imports(code), ["Error", "gpu", "x", "tile"]);
}
