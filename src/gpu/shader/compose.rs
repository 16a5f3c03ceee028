//! Composes the WGSL of a kernel: resolves the imports of its modules.
//!
//! A module begins with imports in WESL's syntax, `import package::rule::math::{lerp};`. All names share one scope, and
//! each module is included once, the rule first: line numbers of error messages are those of the rule's author.

use std::borrow::Cow;
use std::collections::HashMap;

use super::modules::file;

/// The module of an import name that is not a path: a chosen file, or generated text.
#[derive(Debug, Clone)]
pub(crate) enum Seam {
    File(&'static str),
    Text(String),
    /// The rule's module.
    Rule,
}

/// A composed kernel, and the line at which each module begins.
#[derive(Debug)]
pub(crate) struct Composed {
    pub(crate) source: String,
    starts: Vec<(usize, String)>,
}

impl Composed {
    /// Module and line within it of a line of the source, both from 1.
    pub(crate) fn place(&self, line: usize) -> (&str, usize) {
        let module = self.starts.iter().rev().find(|(start, _)| *start < line);
        module.map_or(("", line), |(start, module)| (module.as_str(), line - start))
    }
}

/// Composes the kernel whose module is the file `kernel`; imports find it as `kernel` too.
///
/// # Errors
/// The place of an import or a declaration, and what is wrong with it.
pub(crate) fn compose(kernel: &str, seams: &HashMap<&'static str, Seam>) -> Result<Composed, String> {
    // The path of a file, or the name of a seam with generated text.
    let canonical = |name: &str| match seams.get(name) {
        Some(Seam::File(path)) => format!("package::{}", path.replace('/', "::")),
        Some(Seam::Rule) => "rule".to_owned(),
        _ if name == "kernel" => format!("package::{}", kernel.replace('/', "::")),
        _ => name.to_owned(),
    };
    let source = |name: &str| match (seams.get(name), name.strip_prefix("package::")) {
        (Some(Seam::Text(text)), _) => Some(Cow::Borrowed(text.as_str())),
        (_, Some(path)) => file(&path.replace("::", "/")).map(Cow::Borrowed),
        _ => None,
    };
    let (mut order, mut declared, mut wanted) = (Vec::new(), HashMap::new(), Vec::new());
    let mut open = vec![canonical("kernel")];
    while let Some(name) = open.pop() {
        if order.iter().any(|(known, _)| *known == name) {
            continue;
        }
        let text = source(&name).unwrap_or_default().into_owned();
        let (imports, body) = split_imports(&text).map_err(|(line, problem)| format!("{name}:{line}: {problem}"))?;
        for Import { line, module, items } in imports {
            let from = canonical(&module);
            if source(&from).is_none() {
                return Err(format!("{name}:{line}: there is no module `{module}`"));
            }
            wanted.extend(items.into_iter().map(|item| (name.clone(), line, from.clone(), item)));
            open.push(from);
        }
        if name == "rule" {
            // A rule need not import the types of its own functions.
            open.extend(["interface", "package::rule::step"].map(str::to_owned));
        }
        for (_, line, item) in declarations(&body) {
            if let Some(other) = declared.insert(item.clone(), name.clone()) {
                return Err(format!(
                    "{name}:{line}: `{item}` is declared by {other} too; begin names with the rule's name"
                ));
            }
        }
        order.push((name, body));
    }
    if let Some((name, line, from, item)) = wanted.iter().find(|(_, _, from, item)| declared.get(item) != Some(from)) {
        return Err(format!("{name}:{line}: {from} declares no `{item}`"));
    }
    order.sort_by_key(|(name, _)| name != "rule");
    let mut composed = Composed { source: String::new(), starts: Vec::new() };
    for (name, body) in order {
        composed.starts.push((composed.source.lines().count(), name));
        composed.source.push_str(&body);
        composed.source.push_str(if body.ends_with('\n') { "" } else { "\n" });
    }
    Ok(composed)
}

struct Import {
    line: usize,
    module: String,
    items: Vec<String>,
}

/// The imports of a module, and its text with blank lines in their place.
fn split_imports(text: &str) -> Result<(Vec<Import>, String), (usize, String)> {
    let (mut imports, mut body) = (Vec::new(), String::new());
    let mut statement: Option<(usize, String)> = None;
    for (line, content) in (1..).zip(text.lines()) {
        let code = content.split("//").next().unwrap_or_default().trim();
        if statement.is_none() && !code.starts_with("import ") {
            body.push_str(content);
            body.push('\n');
            continue;
        }
        body.push('\n');
        let (start, so_far) = statement.get_or_insert((line, String::new()));
        so_far.push_str(code);
        if code.ends_with(';') {
            let problem = || (*start, "an import reads `import package::module::{item, item};`".to_owned());
            let path = so_far["import ".len()..].trim_end_matches(';');
            let (module, items) = path.rsplit_once("::").ok_or_else(problem)?;
            let items = items.trim_matches(['{', '}']).split(',').map(|item| item.trim().to_owned());
            let items = items.filter(|item| !item.is_empty()).collect();
            imports.push(Import { line: *start, module: module.trim().to_owned(), items });
            statement = None;
        }
    }
    match statement {
        Some((line, _)) => Err((line, "the import does not end; add `;` after it".to_owned())),
        None => Ok((imports, body)),
    }
}

/// The declarations of a module: keyword, line, name.
pub(crate) fn declarations(body: &str) -> Vec<(&'static str, usize, String)> {
    const KEYWORDS: [&str; 6] = ["fn", "struct", "const", "override", "var", "alias"];
    let (mut found, mut depth, mut keyword) = (Vec::new(), 0, None);
    // Inside `<storage, read_write>` between `var` and its name.
    let mut in_template = false;
    for (line, content) in (1..).zip(body.lines()) {
        let code = content.split("//").next().unwrap_or_default();
        for token in tokens(code) {
            match token {
                "{" | "(" => depth += 1,
                "}" | ")" => depth -= 1,
                _ if depth > 0 => {}
                "<" if keyword == Some("var") => in_template = true,
                ">" if in_template => in_template = false,
                _ if in_template => {}
                token => match keyword.take() {
                    Some(keyword) => found.push((keyword, line, token.to_owned())),
                    None => keyword = KEYWORDS.into_iter().find(|known| *known == token),
                },
            }
        }
    }
    found
}

/// Identifiers, numbers, and single characters of anything else.
fn tokens(code: &str) -> impl Iterator<Item = &str> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let words = code.split_inclusive(move |c: char| !is_word(c));
    words.flat_map(move |word| {
        let end = word.trim_end_matches(|c: char| !is_word(c)).len();
        [&word[..end], &word[end..]].into_iter().filter(|token| !token.trim().is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::super::modules::files;
    use super::*;

    #[test]
    fn declarations_are_found_however_they_are_formatted() {
        let source = "@group(0) @binding(1) var<storage, read_write> a: array<u32>;\nconst B = 1 < 2;\n  struct C {\n    \
                      fn_like: u32,\n  }\n@compute @workgroup_size(1) fn\n  d(x: vec4<f32>) -> f32 { let e = 1; return 1.0; }\n\
                      override f: bool;\nalias G = vec4<f32>; // const comment: u32";
        let names: Vec<_> = declarations(source).into_iter().map(|(.., name)| name).collect();
        assert_eq!(names, ["a", "B", "C", "d", "f", "G"]);
    }

    /// Composes a kernel that imports `rule`.
    fn compose_with(rule: &str) -> Result<Composed, String> {
        let mut seams = HashMap::new();
        seams.insert("clip_segment", Seam::Text("fn clip_by_segment() {}\nfn y() {}\n".to_owned()));
        seams.insert("rule", Seam::Text(rule.to_owned()));
        let interface = "struct Element { x: u32 }\nstruct Hyper { x: u32 }\nstruct ScalarState { x: u32 }\n\
                         struct SegmentSums { x: u32 }\nstruct TensorState { x: u32 }\n";
        seams.insert("interface", Seam::Text(interface.to_owned()));
        compose("device/apply_rule", &seams)
    }

    #[test]
    fn the_rule_comes_first_with_its_own_line_numbers() {
        let rule = "import package::rule::math::{lerp};\nimport interface::{\n    Hyper,\n};\n\nfn rule() { lerp(); }";
        let composed = compose_with(rule).unwrap();
        assert_eq!(composed.source.lines().position(|line| line == "fn rule() { lerp(); }"), Some(5));
        assert_eq!(composed.place(6), ("rule", 6));
        let line = 1 + composed.source.lines().position(|line| line.starts_with("fn y")).unwrap();
        assert_eq!(composed.place(line), ("clip_segment", 2));
        assert_eq!(composed.source.matches("fn lerp").count(), 1);
        assert!(composed.source.contains("struct StepScalars"));
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        for (rule, expected) in [
            ("import package::rule::mth::{lerp};", "rule:1: there is no module `package::rule::mth`"),
            ("\nimport package::rule::math::{lrp};\nfn rule() {}", "rule:2: package::rule::math declares no `lrp`"),
            ("import lerp;", "rule:1: an import reads"),
            ("import package::rule::math::{lerp}", "rule:1: the import does not end"),
            ("fn rule() {}\n\nfn apply() {}", "rule:3: `apply` is declared by package::device::apply_rule too"),
            ("fn other() {}", "package::device::apply_rule:6: rule declares no `rule`"),
        ] {
            let message = compose_with(rule).unwrap_err();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn every_file_is_listed_and_finds_what_it_imports() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
        let mut folders = vec![root.clone()];
        let mut found = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(&root).unwrap().with_extension("");
                    found.push(name.to_str().unwrap().replace('\\', "/"));
                }
            }
        }
        // Rules and storage formats hold their own files.
        found.retain(|name| !name.starts_with("rules/") && !name.starts_with("storage/"));
        found.sort();
        let mut listed: Vec<_> = files().iter().map(|(name, _)| (*name).to_owned()).collect();
        listed.sort();
        assert_eq!(listed, found);
    }
}
