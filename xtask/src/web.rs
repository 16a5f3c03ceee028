//! Static folders of pages, and a file server for them; `cargo xtask playground`.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Cursor;
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;
use std::thread;

use clap::Args;
use tiny_http::{Header, Request, Response};

use crate::repository;
use crate::wasm::Toolchain;

/// A package of the workspace that is a page.
pub(crate) struct Site {
    pub(crate) package: &'static str,
    /// Its static files, below the repository.
    files: &'static str,
}

pub(crate) const PLAYGROUND: Site = Site { package: "playground", files: "examples/playground/web" };
pub(crate) const BROWSER_TESTS: Site = Site { package: "browser", files: "tests/browser/web" };

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Serve the folder to this machine, at port 8000, until interrupted
    #[arg(long)]
    serve: bool,
    /// The same after `--`
    #[arg(last = true, hide = true, value_parser = ["--serve"])]
    after: Option<String>,
}

/// Builds the playground, and serves it if that is asked for.
pub(crate) fn run(options: &Options) -> Result<ExitCode, String> {
    let toolchain = Toolchain::provide()?;
    build(&toolchain, &[&PLAYGROUND])?;
    let folder = PLAYGROUND.folder();
    println!("built: {}; any file server serves it", folder.display());
    if options.serve || options.after.is_some() {
        let server = Server::bind(8000)?;
        println!("serving at {}; end with Ctrl-C", server.url());
        server.answer(&folder);
    }
    Ok(ExitCode::SUCCESS)
}

impl Site {
    /// `target/<package>`: the static files, `<package>.js` and `<package>_bg.wasm`.
    pub(crate) fn folder(&self) -> PathBuf {
        repository().join("target").join(self.package)
    }
}

/// Builds the folders of some sites.
pub(crate) fn build(toolchain: &Toolchain, sites: &[&Site]) -> Result<(), String> {
    let folders: Vec<PathBuf> = sites.iter().map(|site| site.folder()).collect();
    for (site, folder) in sites.iter().zip(&folders) {
        fs::remove_dir_all(folder).ok();
        copy_all(&repository().join(site.files), folder)?;
    }
    let packages: Vec<_> = sites.iter().zip(&folders).map(|(site, folder)| (site.package, folder.as_path())).collect();
    toolchain.bundle(&packages)
}

fn copy_all(from: &Path, to: &Path) -> Result<(), String> {
    fs::create_dir_all(to).map_err(|error| format!("{}: {error}", to.display()))?;
    let entries = fs::read_dir(from).map_err(|error| format!("{}: {error}", from.display()))?;
    for entry in entries.flatten().map(|entry| entry.path()) {
        let Some(name) = entry.file_name() else { continue };
        if entry.is_dir() {
            copy_all(&entry, &to.join(name))?;
        } else {
            fs::copy(&entry, to.join(name)).map_err(|error| format!("{}: {error}", entry.display()))?;
        }
    }
    Ok(())
}

/// A file server for this machine alone.
pub(crate) struct Server(tiny_http::Server);

impl Server {
    /// Listens at a port; 0 chooses a free one.
    pub(crate) fn bind(port: u16) -> Result<Self, String> {
        let server = tiny_http::Server::http(("127.0.0.1", port));
        server.map(Self).map_err(|error| format!("cannot listen at port {port}: {error}"))
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.0.server_addr())
    }

    /// Answers requests for the files of a folder, for ever.
    fn answer(&self, folder: &Path) {
        for request in self.0.incoming_requests() {
            respond(request, folder);
        }
    }

    /// Answers requests until this program ends, and returns the address.
    pub(crate) fn serve(self, folder: PathBuf) -> String {
        let url = self.url();
        thread::spawn(move || self.answer(&folder));
        url
    }
}

fn respond(request: Request, folder: &Path) {
    let found = file_of(folder, request.url()).and_then(|path| Some((media_type(&path), File::open(path).ok()?)));
    // The browser may have gone.
    let _ = match found {
        Some((media, file)) => {
            let headers = [("Content-Type", media), ("Cache-Control", "no-store")];
            let headers = headers.into_iter().filter_map(|(name, value)| Header::from_bytes(name, value).ok());
            request.respond(headers.fold(Response::from_file(file), Response::with_header))
        }
        None => request.respond(Response::new(404.into(), Vec::new(), Cursor::new(b"not found"), Some(9), None)),
    };
}

/// The file of a URL's path, within the folder.
fn file_of(folder: &Path, url: &str) -> Option<PathBuf> {
    let path = url.split(['?', '#']).next()?.trim_start_matches('/');
    if !Path::new(path).components().all(|part| matches!(part, Component::Normal(_))) {
        return None;
    }
    let path = folder.join(path);
    let path = if path.is_dir() { path.join("index.html") } else { path };
    path.is_file().then_some(path)
}

/// Browsers refuse scripts and wasm of another type.
fn media_type(path: &Path) -> &'static str {
    match path.extension().and_then(OsStr::to_str) {
        Some("html") => "text/html; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("json") => "application/json",
        Some("wasm") => "application/wasm",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    fn get(address: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(address).expect("the server listens");
        write!(stream, "GET {path} HTTP/1.0\r\nHost: here\r\n\r\n").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
        answer
    }

    #[test]
    fn files_of_the_folder_are_served_and_no_others() {
        let folder = std::env::temp_dir().join(format!("xtask-web-{}", std::process::id()));
        fs::create_dir_all(folder.join("page/deep")).expect("a folder");
        fs::write(folder.join("secret.txt"), "secret").expect("written");
        fs::write(folder.join("page/index.html"), "<p>hello").expect("written");
        fs::write(folder.join("page/deep/a.wasm"), "wasm").expect("written");
        let url = Server::bind(0).expect("a port").serve(folder.join("page"));
        let address = url.trim_start_matches("http://").trim_end_matches('/');
        let page = get(address, "/?state=1");
        assert!(page.contains("200") && page.contains("text/html") && page.ends_with("<p>hello"), "{page}");
        assert!(get(address, "/deep/a.wasm").contains("application/wasm"));
        for path in ["/../secret.txt", "/none.js", "/deep/../../secret.txt", "//secret.txt"] {
            let answer = get(address, path);
            assert!(answer.contains("404") && !answer.contains("secret"), "{path}: {answer}");
        }
        fs::remove_dir_all(&folder).ok();
    }
}
