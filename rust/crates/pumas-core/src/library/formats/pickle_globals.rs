//! Which imports of a pickle are dangerous: the list of picklescan 1.0.5
//! (<https://github.com/mmaitre314/picklescan>, MIT), and its way of applying it.
//!
//! A tripwire, not a wall: nothing on a list of names is proof that a pickle is safe.

/// Which names of a module are meant.
#[derive(Debug)]
enum Names {
    All,
    /// Every name that is a part of this text.
    PartOf(&'static str),
    These(&'static [&'static str]),
}

impl Names {
    fn hold(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::PartOf(text) => text.contains(name),
            Self::These(names) => names.contains(&name),
        }
    }
}

/// What an import may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Safety {
    Innocuous,
    /// On no list.
    Unknown,
    Dangerous,
}

/// What an import is called whose name is computed, or is none that a program would have.
pub(super) const COMPUTED: &str = "unknown";

static SAFE: &[(&str, Names)] = &[
    ("collections", Names::These(&["OrderedDict"])),
    (
        "torch",
        Names::These(&[
            "BFloat16Storage",
            "BoolStorage",
            "ByteStorage",
            "CharStorage",
            "ComplexDoubleStorage",
            "ComplexFloatStorage",
            "DoubleStorage",
            "FloatStorage",
            "HalfStorage",
            "IntStorage",
            "LongStorage",
            "QInt32Storage",
            "QInt8Storage",
            "QUInt2x4Storage",
            "QUInt4x2Storage",
            "QUInt8Storage",
            "ShortStorage",
        ]),
    ),
    ("numpy", Names::These(&["dtype", "ndarray"])),
    ("numpy._core.multiarray", Names::These(&["_reconstruct"])),
    ("numpy.core.multiarray", Names::These(&["_reconstruct"])),
    ("torch._utils", Names::These(&["_rebuild_tensor_v2"])),
];
const BUILTINS: Names = Names::These(&[
    "apply",
    "breakpoint",
    "compile",
    "eval",
    "exec",
    "getattr",
    "open",
]);
const GETTERS: Names = Names::These(&["attrgetter", "itemgetter", "methodcaller"]);
static DANGEROUS: &[(&str, Names)] = &[
    ("__builtin__", BUILTINS),
    ("builtins", BUILTINS),
    (
        "cloudpickle.cloudpickle",
        Names::These(&[
            "_builtin_type",
            "_function_setstate",
            "_make_cell",
            "_make_empty_cell",
            "_make_function",
            "subimport",
        ]),
    ),
    ("types", Names::These(&["CodeType"])),
    ("aiohttp", Names::All),
    ("asyncio", Names::All),
    ("bdb", Names::All),
    ("commands", Names::All),
    ("ctypes", Names::All),
    ("functools", Names::PartOf("partial")),
    ("httplib", Names::All),
    ("logging", Names::These(&["FileHandler"])),
    ("_io", Names::These(&["FileIO"])),
    ("numpy.f2py", Names::All),
    ("numpy.testing._private.utils", Names::All),
    ("nt", Names::All),
    ("posix", Names::All),
    ("_operator", GETTERS),
    ("operator", GETTERS),
    ("os", Names::All),
    ("requests.api", Names::All),
    ("runpy", Names::All),
    ("shutil", Names::All),
    ("socket", Names::All),
    ("ssl", Names::All),
    ("subprocess", Names::All),
    ("sys", Names::All),
    ("code", Names::These(&["InteractiveInterpreter.runcode"])),
    ("cProfile", Names::All),
    ("distutils.file_util", Names::All),
    ("doctest", Names::These(&["debug_script"])),
    ("ensurepip", Names::These(&["_run_pip"])),
    (
        "idlelib.autocomplete",
        Names::These(&["AutoComplete.fetch_completions", "AutoComplete.get_entity"]),
    ),
    (
        "idlelib.calltip",
        Names::These(&["Calltip.fetch_tip", "get_entity"]),
    ),
    ("idlelib.debugobj", Names::These(&["ObjectTreeItem.SetText"])),
    (
        "idlelib.pyshell",
        Names::These(&["ModifiedInterpreter.runcode", "ModifiedInterpreter.runcommand"]),
    ),
    ("idlelib.run", Names::These(&["Executive.runcode"])),
    ("imaplib", Names::These(&["IMAP4_stream"])),
    ("lib2to3.pgen2.grammar", Names::These(&["Grammar.loads"])),
    (
        "lib2to3.pgen2.pgen",
        Names::These(&["ParserGenerator.make_label"]),
    ),
    ("pdb", Names::All),
    ("pickle", Names::All),
    ("_pickle", Names::All),
    ("pip", Names::All),
    ("pkgutil", Names::These(&["resolve_name"])),
    ("pty", Names::All),
    ("profile", Names::All),
    ("pydoc", Names::All),
    ("test", Names::All),
    ("timeit", Names::All),
    ("torch._dynamo.guards", Names::These(&["GuardBuilder.get"])),
    ("torch._inductor.codecache", Names::PartOf("compile_file")),
    (
        "torch.fx.experimental.symbolic_shapes",
        Names::These(&["ShapeEnv.evaluate_guards_expression"]),
    ),
    ("torch.jit.unsupported_tensor_ops", Names::These(&["execWrapper"])),
    ("torch.serialization", Names::PartOf("load")),
    (
        "torch.utils._config_module",
        Names::These(&["ConfigModule.load_config"]),
    ),
    (
        "torch.utils.bottleneck.__main__",
        Names::These(&["run_autograd_prof", "run_cprofile"]),
    ),
    ("torch.utils.collect_env", Names::These(&["run"])),
    (
        "torch.utils.data.datapipes.utils.decoder",
        Names::These(&["basichandlers"]),
    ),
    ("trace", Names::These(&["Trace.run", "Trace.runctx"])),
    ("urllib.request", Names::All),
    ("uuid", Names::All),
    ("venv", Names::All),
    ("webbrowser", Names::All),
    ("_osx_support", Names::All),
    ("_aix_support", Names::All),
    ("_pyrepl", Names::All),
];

/// Judge the import of `name` from `module`.
pub(super) fn judge(module: &str, name: &str) -> Safety {
    let of = |list: &'static [(&str, Names)], module: &str| {
        list.iter()
            .find(|(known, _)| *known == module)
            .map(|(_, names)| names)
    };
    let dangerous = of(DANGEROUS, module).or_else(|| {
        let parents = module.match_indices('.').map(|(at, _)| &module[..at]);
        parents
            .filter_map(|parent| of(DANGEROUS, parent))
            .find(|names| matches!(names, Names::All))
    });
    if module.contains(COMPUTED) || name.contains(COMPUTED) || dangerous.is_some_and(|names| names.hold(name))
    {
        Safety::Dangerous
    } else if of(SAFE, module).is_some_and(|names| names.hold(name)) {
        Safety::Innocuous
    } else {
        Safety::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_are_judged_by_module_and_name() {
        assert_eq!(judge("os", "system"), Safety::Dangerous);
        assert_eq!(judge("asyncio.events", "x"), Safety::Dangerous);
        assert_eq!(judge("functools", "partial"), Safety::Dangerous);
        assert_eq!(judge("collections", "OrderedDict"), Safety::Innocuous);
        assert_eq!(judge("logging", "getLogger"), Safety::Unknown);
        assert_eq!(judge("unknown", "x"), Safety::Dangerous);
    }
}
