//! A panic of a run is a finding like any other: it is caught, and says where it was.

use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe};

thread_local! {
    /// A run is under way on this thread.
    static WATCHED: Cell<bool> = const { Cell::new(false) };
    /// Where the last panic of a watched run was, and what it said.
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Panics of runs are kept for [`caught`], and printed only if `loud`; all others as ever.
pub fn install_hook(loud: bool) {
    let ordinary = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if WATCHED.get() {
            let place = info.location().map_or_else(|| "somewhere".to_owned(), ToString::to_string);
            let message = info.payload_as_str().unwrap_or("no message");
            LAST.set(Some(format!("{place}: {message}")));
        }
        if loud || !WATCHED.get() {
            ordinary(info);
        }
    }));
}

/// What `run` returns.
///
/// # Errors
/// It panicked: "file:line:column: message".
pub fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    WATCHED.set(true);
    // what a run leaves behind is dropped with it
    let ended = panic::catch_unwind(AssertUnwindSafe(run));
    WATCHED.set(false);
    ended.map_err(|_| LAST.take().unwrap_or_else(|| "a panic that no hook saw".to_owned()))
}
