//! What the sidecar is told on its command line.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::prelude::*;

/// How to start.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    /// A name or an address to listen on.
    pub host: String,
    /// 0 picks a free one.
    pub port: u16,
    /// Log more.
    pub debug: bool,
    /// The folder with launcher-data and shared-resources; None means the checkout.
    pub root: Option<PathBuf>,
    /// The process to end with; 0 is none. None means the one that started this.
    pub parent: Option<u32>,
}

/// What the arguments ask for.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// To serve.
    Serve(Options),
    /// To say how it is used.
    Help,
}

/// The first line of the help, and of every complaint.
pub const USAGE: &str =
    "usage: pumas-rpc [-h] [-p PORT] [--host HOST] [-d] [--launcher-root DIR] [--parent PID]";

/// The help below it.
pub const HELP: &str = "
The Pumas sidecar: JSON-RPC 2.0 on loopback.

options:
  -h, --help            show this help and exit
  -p, --port PORT       port to listen on; 0 picks a free one (default)
  --host HOST           address to listen on (default: 127.0.0.1)
  -d, --debug           log more
  --launcher-root DIR   folder with launcher-data and shared-resources (default: the checkout)
  --parent PID          stop when this process dies; 0: stay (default: the process that started this)
";

/// Read the arguments behind the program's name.
///
/// # Errors
/// What is wrong with them.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Asked, lexopt::Error> {
    let mut options = Options {
        host: "127.0.0.1".into(),
        port: 0,
        debug: false,
        root: None,
        parent: None,
    };
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Short('p') | Long("port") => options.port = parser.value()?.parse()?,
            Long("host") => options.host = given(parser.value()?)?.string()?,
            Short('d') | Long("debug") => options.debug = true,
            Long("launcher-root" | "launcher_root") => options.root = Some(given(parser.value()?)?.into()),
            Long("parent") => options.parent = Some(parser.value()?.parse()?),
            Short('h') | Long("help") => return Ok(Asked::Help),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Asked::Serve(options))
}

/// An empty address would be all of the machine's, an empty folder the working directory: nobody means that.
fn given(value: OsString) -> Result<OsString, lexopt::Error> {
    if value.to_string_lossy().trim().is_empty() {
        return Err("an argument must not be empty".into());
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &str) -> Result<Asked, String> {
        parse(words.split_whitespace().map(OsString::from)).map_err(|error| error.to_string())
    }

    #[test]
    fn all_spellings() {
        let Asked::Serve(options) = read("-p 7 --host ::1 -d --launcher_root /x --parent 0").unwrap() else {
            panic!()
        };
        assert_eq!(
            (options.port, options.host.as_str(), options.debug),
            (7, "::1", true)
        );
        assert_eq!((options.root, options.parent), (Some("/x".into()), Some(0)));
        assert_eq!(read("--port=9 --help"), Ok(Asked::Help));
    }

    #[test]
    fn wrong_ones() {
        for words in [
            "--port x",
            "--port 70000",
            "--port -1",
            "--nope",
            "--port",
            "word",
            "--debug=1",
        ] {
            assert!(read(words).is_err(), "{words}");
        }
        for option in ["--host=", "--launcher-root=", "--host= "] {
            assert!(parse([OsString::from(option)]).is_err(), "{option}");
        }
    }
}
