//! Composes the WGSL of a kernel: resolves the imports of its modules.
//!
//! A module begins with imports in WESL's syntax, `import package::rule::math::{lerp};`. All names share one scope, and
//! each module is included once, the rule first: line numbers of error messages are those of the rule's author.

use std::borrow::Cow;
use std::collections::HashMap;

use super::scan::{declarations, without_comments};

/// The module of an import name that is not a path: a chosen file, or generated text.
#[derive(Debug, Clone)]
pub(crate) enum Seam {
    File(&'static str),
    Text(String),
    /// The rule's module.
    Rule,
}

/// A composed kernel, and the line at which each module begins.
#[derive(Debug, Clone)]
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

    /// Name of the file of a line, for messages. Lines of a rule are those of its author.
    pub(crate) fn file(&self, line: u32) -> String {
        let (module, _) = self.place(line as usize);
        if module == "rule" { "rule.wgsl".to_owned() } else { format!("{module} (composed)") }
    }
}

/// Composes the kernel whose module is the file `kernel`; imports find it as `kernel` too. `file` returns the text of a file
/// by its path.
///
/// # Errors
/// Place and cause of a wrong import or declaration.
pub(crate) fn compose(
    kernel: &str,
    seams: &HashMap<&'static str, Seam>,
    file: impl Fn(&str) -> Option<&'static str>,
) -> Result<Composed, String> {
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
            match declared.insert(item.clone(), name.clone()) {
                None => {}
                Some(other) if other == name => return Err(format!("{name}:{line}: `{item}` is declared twice")),
                Some(other) => {
                    return Err(format!(
                        "{name}:{line}: `{item}` is declared by {other} too; begin names with the rule's name"
                    ));
                }
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

/// `import module::{items};`, and its line.
struct Import {
    line: usize,
    module: String,
    items: Vec<String>,
}

/// The imports at the top of a module, and its text with blank lines in their place.
fn split_imports(text: &str) -> Result<(Vec<Import>, String), (usize, String)> {
    let (code, mut imports, mut end) = (without_comments(text), Vec::new(), 0);
    let is_import = |text: &&str| text.starts_with(char::is_whitespace);
    while let Some(import) = code[end..].trim_start().strip_prefix("import").filter(is_import) {
        let line = 1 + code[..code.len() - import.len()].matches('\n').count();
        let (path, rest) =
            import.split_once(';').ok_or((line, "the import does not end; add `;` after it".to_owned()))?;
        let (module, items) = path
            .rsplit_once("::")
            .ok_or((line, "an import reads `import package::module::{item, item};`".to_owned()))?;
        let items = items.trim().trim_matches(['{', '}']).split(',').map(|item| item.trim().to_owned());
        let items = items.filter(|item| !item.is_empty()).collect();
        imports.push(Import { line, module: module.trim().to_owned(), items });
        end = code.len() - rest.len();
    }
    let blank_lines = text[..end].matches('\n').collect::<String>();
    Ok((imports, blank_lines + &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::super::modules::file;
    use super::*;

    /// Composes a kernel that imports `rule`.
    fn compose_with(rule: &str) -> Result<Composed, String> {
        let mut seams = HashMap::new();
        seams.insert("clip_segment", Seam::Text("fn clip_by_segment() {}\nfn y() {}\n".to_owned()));
        seams.insert("average", Seam::File("device/stub/average"));
        seams.insert("lookahead", Seam::File("device/stub/lookahead"));
        seams.insert("rule", Seam::Text(rule.to_owned()));
        let interface = "struct Element { x: u32 }\nstruct Hyper { x: u32 }\nstruct ScalarState { x: u32 }\n\
                         struct SegmentSums { x: u32 }\nstruct TensorState { x: u32 }\n\
                         struct TransformStates { x: u32 }\n";
        seams.insert("interface", Seam::Text(interface.to_owned()));
        compose("device/apply_rule", &seams, file)
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
            (
                "/* import x::{y};\n*/ import package::rule::math::{lrp};\nfn rule() {}",
                "rule:2: package::rule::math declares",
            ),
            ("fn rule() {}\nfn rule() {}", "rule:2: `rule` is declared twice"),
            ("import\n  package::rule::math::{lrp};\nfn rule() {}", "rule:1: package::rule::math declares no `lrp`"),
            ("fn rule() {}\n\nfn apply() {}", "rule:3: `apply` is declared by package::device::apply_rule too"),
            ("fn other() {}", "package::device::apply_rule:8: rule declares no `rule`"),
        ] {
            let message = compose_with(rule).unwrap_err();
            assert!(message.contains(expected), "{message}");
        }
    }
}
