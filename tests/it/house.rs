//! The structure of the sources: imports that point down without circles, and shaders that mirror the Rust.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use crate::common::repository;

/// The modules of the crate's root, lowest first: a module imports from those above it in this list.
const LAYERS: &[&str] = &[
    "number",
    "simd",
    "storage",
    "random",
    "host",
    "params",
    "states",
    "error",
    "nonfinite",
    "precision",
    "tile",
    "power_of_two",
    "parallel",
    "layout",
    "projection",
    "rows",
    "schedule",
    "clip",
    "rule",
    "segments",
    "grad_scaler",
    "groups",
    "factors",
    "transform",
    "kernels",
    "rules",
    "config",
    "metrics",
    "plan",
    "checkpoint",
    "gpu",
    "cpu",
    "optimizer",
    "builder",
    "distributed",
    "verify",
];

/// Files of the mirrored rooms without a shader: declarations and lists.
const WITHOUT_SHADER: &[&str] = &[
    "rules/custom",
    "rules/declare",
    "rules/docs",
    "rules/registry",
    "rules/adam/equations",
    "storage/code_table",
    "storage/codes",
    "storage/format",
];

/// All files below a folder with that extension, relative to the folder, without the extension.
fn files(folder: &str, extension: &str) -> BTreeSet<String> {
    let (base, mut found, mut open) = (repository().join(folder), BTreeSet::new(), vec![repository().join(folder)]);
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                let relative = path.with_extension("");
                found.insert(relative.strip_prefix(&base).unwrap().to_str().unwrap().replace('\\', "/"));
            }
        }
    }
    found
}

fn text(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap()
}

/// The source without comments, without imports for the documentation, and without its unit tests.
fn code(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let code: Vec<_> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let mut parts = code.join("\n");
    while let Some(at) = parts.find("#[cfg(doc)]") {
        let end = at + parts[at..].find(';').unwrap() + 1;
        parts.replace_range(at..end, "");
    }
    parts
}

/// The paths of `a::{b, c::{d}}`.
fn flatten(tree: &str) -> Vec<String> {
    let Some((prefix, list)) = tree.split_once('{') else {
        return tree.split_whitespace().next().map(str::to_owned).into_iter().collect();
    };
    let (mut depth, mut item, mut items) = (0, String::new(), Vec::new());
    for letter in list.chars() {
        match letter {
            '}' if depth == 0 => break,
            ',' if depth == 0 => items.push(std::mem::take(&mut item)),
            _ => {
                depth += i32::from(letter == '{') - i32::from(letter == '}');
                item.push(letter);
            }
        }
    }
    items.push(item);
    items.iter().flat_map(|item| flatten(item.trim())).map(|path| format!("{}{path}", prefix.trim())).collect()
}

/// The paths of one file: names that it exports from elsewhere, and all that it imports or mentions.
#[derive(Default)]
struct Paths {
    exported: BTreeMap<String, String>,
    /// Modules that are exported whole.
    globs: Vec<String>,
    used: Vec<String>,
}

impl Paths {
    fn of(code: &str) -> Self {
        let (mut paths, mut rest) = (Self::default(), String::new());
        for statement in code.split_inclusive(';') {
            let Some((before, tree)) = statement.rsplit_once("use ").filter(|(before, _)| {
                let line = before.rsplit('\n').next().unwrap_or_default().trim();
                line.is_empty() || line.starts_with("pub")
            }) else {
                rest += statement;
                continue;
            };
            let (exports, tree) =
                (before.trim_end().ends_with("pub") || before.ends_with(") "), tree.trim_end_matches(';'));
            rest += before;
            for path in flatten(tree) {
                match path.strip_suffix("::*").filter(|_| exports) {
                    Some(module) => paths.globs.push(module.to_owned()),
                    None if exports => {
                        let name = tree.rsplit(" as ").next().filter(|name| !name.contains("::")).unwrap_or(&path);
                        paths.exported.insert(name.rsplit("::").next().unwrap().to_owned(), path);
                    }
                    None => paths.used.push(path),
                }
            }
        }
        let is_path = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == ':';
        let mentioned = rest.split(|letter| !is_path(letter)).filter(|path| path.contains("::"));
        paths.used.extend(mentioned.map(str::to_owned));
        paths
    }
}

/// The modules of the crate: for each file, the files that it imports from.
struct Modules(BTreeMap<String, Paths>);

impl Modules {
    fn read() -> Self {
        let module = |file: String| {
            let paths = Paths::of(&code(&text(&format!("src/{file}.rs"))));
            (if file == "lib" { String::new() } else { file }, paths)
        };
        Self(files("src", "rs").into_iter().filter(|file| file != "rules/docs").map(module).collect())
    }

    fn child(&self, module: &str, name: &str) -> Option<String> {
        let child = if module.is_empty() { name.to_owned() } else { format!("{module}/{name}") };
        self.0.contains_key(&child).then_some(child)
    }

    /// The module of a path's item; `None` for items of other crates.
    fn resolve(&self, module: &str, path: &str) -> Option<String> {
        let mut segments = path.split("::").peekable();
        let mut module = module.to_owned();
        match *segments.peek()? {
            "crate" => module.clear(),
            "self" | "super" => {}
            first => drop(self.child(&module, first)?),
        }
        while let Some(segment) = segments.next() {
            if matches!(segment, "crate" | "self") {
                continue;
            }
            if segment == "super" {
                module = module.rsplit_once('/').map_or(String::new(), |(parent, _)| parent.to_owned());
                continue;
            }
            if let Some(child) = self.child(&module, segment) {
                module = child;
                continue;
            }
            let paths = &self.0[&module];
            if let Some(source) = paths.exported.get(segment) {
                let rest: Vec<_> = std::iter::once(source.as_str()).chain(segments).collect();
                return self.resolve(&module, &rest.join("::"));
            }
            let declares = |glob: &String| {
                let glob = self.resolve(&module, glob)?;
                let exports = self.0[&glob].exported.contains_key(segment);
                exports.then(|| self.resolve(&glob, &format!("self::{segment}"))).flatten()
            };
            return paths.globs.iter().find_map(declares).or(Some(module));
        }
        Some(module)
    }

    fn imports(&self) -> BTreeMap<&str, BTreeSet<String>> {
        let of = |(module, paths): (&_, &Paths)| -> BTreeSet<_> {
            paths.used.iter().filter_map(|path| self.resolve(module, path)).filter(|target| target != module).collect()
        };
        self.0.iter().map(|(module, paths)| (module.as_str(), of((module, paths)))).collect()
    }
}

/// The modules that lie on circles of imports, or between two.
fn on_circles<'a>(imports: &BTreeMap<&'a str, BTreeSet<String>>) -> Vec<&'a str> {
    let mut open: Vec<&str> = imports.keys().copied().collect();
    loop {
        let before = open.len();
        let rest = open.clone();
        open.retain(|module| {
            let imports_one = imports[module].iter().any(|target| rest.contains(&target.as_str()));
            imports_one && rest.iter().any(|other| imports[other].contains(*module))
        });
        if open.len() == before {
            return open;
        }
    }
}

#[test]
fn imports_form_no_circle() {
    let modules = Modules::read();
    let imports = modules.imports();
    let circles = on_circles(&imports);
    let arrows = |module: &&str| {
        let targets = imports[module].iter().filter(|target| circles.contains(&target.as_str()));
        format!("src/{module}.rs imports from {}", targets.cloned().collect::<Vec<_>>().join(", "))
    };
    assert!(circles.is_empty(), "a circle of imports:\n{}", circles.iter().map(arrows).collect::<Vec<_>>().join("\n"));
    let count: usize = imports.values().map(BTreeSet::len).sum();
    assert!(count > 400, "{count} imports: the search finds too few");
}

#[test]
fn imports_point_down() {
    let modules = Modules::read();
    let layer = |module: &str| {
        let room = module.split('/').next().unwrap();
        let layer = LAYERS.iter().position(|layer| *layer == room);
        layer.unwrap_or_else(|| panic!("src/{module}.rs: add the module {room} to LAYERS"))
    };
    let mut wrong = Vec::new();
    for (module, targets) in modules.imports().iter().filter(|(module, _)| !module.is_empty()) {
        let upward = targets.iter().filter(|target| target.is_empty() || layer(target) > layer(module));
        wrong.extend(upward.map(|target| format!("src/{module}.rs imports from {target:?}, which lies above it")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn paths_are_read_as_rust_reads_them() {
    let paths = Paths::of(&code(
        "pub use a::{b, c::d};\npub(crate) use e::*;\nuse super::{f::{g, h}, i as j};\n#[cfg(doc)]\nuse k::l;\n\
         fn m() { crate::n::o(); }\n// crate::p\n#[cfg(test)]\nmod tests { use q::r; }",
    ));
    let exported: Vec<_> = paths.exported.into_iter().collect();
    assert_eq!(exported, [("b", "a::b"), ("d", "a::c::d")].map(|(name, path)| (name.to_owned(), path.to_owned())));
    assert_eq!(paths.globs, ["e"]);
    assert_eq!(paths.used, ["super::f::g", "super::f::h", "super::i", "crate::n::o"]);
}

#[test]
fn circles_are_found() {
    let imports = [("a", vec!["b"]), ("b", vec!["c"]), ("c", vec!["b", "d"]), ("d", vec![])];
    let imports =
        imports.into_iter().map(|(module, targets)| (module, targets.into_iter().map(str::to_owned).collect()));
    assert_eq!(on_circles(&imports.collect()), ["b", "c"]);
}

/// A shader lies where the Rust that computes the same lies, under the same name. `device` holds what only shaders need.
#[test]
fn shaders_mirror_the_rust() {
    let (rust, shaders) = (files("src", "rs"), files("shaders", "wgsl"));
    for shader in shaders.iter().filter(|shader| !shader.starts_with("device/")) {
        assert!(rust.contains(shader), "shaders/{shader}.wgsl has no src/{shader}.rs");
    }
    let rooms = ["kernels/", "rules/", "transform/", "storage/"];
    for file in rust.iter().filter(|file| rooms.iter().any(|room| file.starts_with(room))) {
        let has_shader = shaders.contains(file);
        assert_ne!(has_shader, WITHOUT_SHADER.contains(&file.as_str()), "src/{file}.rs and shaders/{file}.wgsl");
    }
}

/// The names that follow `keyword` in a source, each with the rest of its line.
fn declared<'a>(source: &'a str, keyword: &str) -> Vec<(&'a str, &'a str)> {
    let declared = source.match_indices(keyword).map(|(at, _)| source[at + keyword.len()..].lines().next().unwrap());
    declared.map(|line| line.split_at(line.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap())).collect()
}

/// A kernel's entry point and a rule's functions have the names of their CPU references. A rule's `rule` is `update`.
#[test]
fn functions_have_one_name() {
    let mut kernels = 0;
    for shader in files("shaders", "wgsl").into_iter().filter(|shader| !shader.starts_with("device/")) {
        let wgsl = text(&format!("shaders/{shader}.wgsl"));
        let (is_kernel, is_rule) = (wgsl.contains("@compute"), shader.starts_with("rules/"));
        if !is_kernel && !is_rule {
            continue;
        }
        kernels += usize::from(is_kernel);
        let rust = code(&text(&format!("src/{shader}.rs")));
        let words: BTreeSet<_> = rust.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        let stem = shader.rsplit('/').next().unwrap();
        let functions = declared(&wgsl, "fn ").into_iter().map(|(name, _)| name);
        for function in functions.filter(|name| if is_rule { *name != "rule" } else { *name == stem }) {
            assert!(words.contains(function), "src/{shader}.rs has no `{function}`");
        }
        assert!(is_rule || declared(&wgsl, "fn ").iter().any(|(name, _)| *name == stem), "shaders/{shader}.wgsl");
        assert!(is_rule || rust.contains(&format!("fn {stem}(")), "src/{shader}.rs has no `fn {stem}`");
    }
    assert_eq!(kernels, 21);
}

/// An integer constant that a shader and its Rust declare has one value.
#[test]
fn constants_have_one_value() {
    let value = |rest: &str| {
        let value = rest.split('=').nth(1)?.trim().trim_end_matches([';', 'u']).replace('_', "").to_lowercase();
        let number =
            value.strip_prefix("0x").map_or_else(|| value.parse().ok(), |hex| u32::from_str_radix(hex, 16).ok());
        number.or_else(|| (value == "u32::max").then_some(u32::MAX))
    };
    let mut compared = BTreeSet::new();
    for shader in files("shaders", "wgsl").iter().filter(|shader| !shader.starts_with("device/")) {
        let (wgsl, rust) = (text(&format!("shaders/{shader}.wgsl")), text(&format!("src/{shader}.rs")));
        for (name, of_wgsl) in declared(&wgsl, "\nconst ") {
            let of_rust = declared(&rust, "const ").into_iter().find(|(known, _)| *known == name);
            let Some((_, of_rust)) = of_rust else { continue };
            let (Some(of_wgsl), Some(of_rust)) = (value(of_wgsl), value(of_rust)) else { continue };
            assert_eq!(of_wgsl, of_rust, "{name} in shaders/{shader}.wgsl and src/{shader}.rs");
            compared.insert(name.to_owned());
        }
    }
    assert!(compared.contains("TILE_LEN") && compared.contains("NONE"), "{compared:?}");
}
