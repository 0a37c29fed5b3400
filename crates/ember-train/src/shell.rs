//! Commands to copy into a shell.

use std::path::Path;

/// `ember resume RUN`.
pub fn resume(run: &Path) -> String {
    format!("ember resume {}", quoted(run))
}

/// A path as one word of a POSIX shell, which the program takes for no option.
pub fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let text = if text.starts_with('-') { format!("./{text}") } else { text.into_owned() };
    // A path has no NUL byte, the one thing that cannot be quoted.
    shlex::try_quote(&text).map(|quoted| quoted.into_owned()).unwrap_or(text)
}

/// A command with its arguments, each as one word of a POSIX shell.
pub fn words(program: &str, args: &[String]) -> String {
    // An argument has no NUL byte, the one thing that cannot be quoted.
    shlex::try_join(std::iter::once(program).chain(args.iter().map(String::as_str))).unwrap_or_default()
}
