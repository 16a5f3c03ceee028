//! `cargo xtask api`: the public surface of the crate on one page, `docs/api.txt`.

use std::fs;
use std::process::ExitCode;

use crate::{cargo, repository};

const INSTALL: &str = "cargo-public-api does not run; install it: cargo install cargo-public-api --locked";

/// Writes the page. With `check`, fails if it differs from the one in the tree.
pub(crate) fn run(check: bool) -> Result<ExitCode, String> {
    let mut command = cargo();
    // rustdoc's JSON is unstable; the variable allows it on a stable toolchain.
    command.env("RUSTC_BOOTSTRAP", "1").current_dir(repository());
    command.args(["public-api", "--package", "wgpu-optim", "--all-features", "-sss"]);
    let output = command.output().map_err(|error| format!("{INSTALL} ({error})"))?;
    if !output.status.success() {
        return Err(format!("{INSTALL}\n{}", String::from_utf8_lossy(&output.stderr)));
    }
    let listing = abridged(&String::from_utf8_lossy(&output.stdout));
    let path = repository().join("docs/api.txt");
    if check {
        let known = fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        if known != listing {
            return Err(
                "the public surface differs from docs/api.txt; run `cargo xtask api` and review the change".into()
            );
        }
    } else {
        fs::write(&path, &listing).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        println!("{} lines in {}", listing.lines().count(), path.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// The listing with one line per implementation of a trait, and with short paths. Implementations of the traits of rules are
/// left out: the list of rules stands in docs/rules.md.
fn abridged(listing: &str) -> String {
    let (mut lines, mut in_trait_impl) = (Vec::<String>::new(), false);
    for line in listing.lines() {
        // The path before the arguments; `Type::function` belongs to the implementation above it.
        let path = line.split(['(', '<']).next().unwrap_or_default();
        let owner = path.rsplit("::").nth(1).unwrap_or_default();
        let is_member = owner.starts_with(char::is_uppercase) && !line.starts_with("impl");
        in_trait_impl &= is_member;
        if line.starts_with("impl") {
            in_trait_impl = line.contains(" for ");
        }
        let line = short_paths(line);
        let is_shown = if line.starts_with("impl") {
            !line.starts_with("impl rule::") && !lines.contains(&line)
        } else {
            !in_trait_impl
        };
        if is_shown {
            lines.push(line);
        }
    }
    lines.join("\n") + "\n"
}

/// Drops the modules of other crates, and this crate's name.
fn short_paths(line: &str) -> String {
    let is_path = |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | ':');
    let short = |path: &str| {
        let is_foreign = ["core::", "alloc::", "std::", "serde_core::"].iter().any(|name| path.starts_with(name));
        let last = if is_foreign { path.rsplit("::").next() } else { path.strip_prefix("wgpu_optim::") };
        last.unwrap_or(path).to_owned()
    };
    let (mut text, mut path) = (String::new(), String::new());
    for letter in line.chars() {
        if is_path(letter) {
            path.push(letter);
        } else {
            text += &short(&std::mem::take(&mut path));
            text.push(letter);
        }
    }
    text + &short(&path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn implementations_of_traits_are_one_line_each() {
        let listing = "pub struct wgpu_optim::A\nimpl wgpu_optim::A\npub fn wgpu_optim::A::new(f64) -> Self\n\
                       impl core::convert::From<u32> for wgpu_optim::A\npub fn wgpu_optim::A::from(u32) -> Self\n\
                       impl core::convert::From<u32> for wgpu_optim::A\npub fn wgpu_optim::m::f(alloc::vec::Vec<u32>)\n";
        let expected =
            "pub struct A\nimpl A\npub fn A::new(f64) -> Self\nimpl From<u32> for A\npub fn m::f(Vec<u32>)\n";
        assert_eq!(abridged(listing), expected);
    }
}
