"""Pages that the site has beyond docs/: its start, the changelog, the benchmarks, and the API reference.

A hook of MkDocs (`mkdocs.yml`). Nothing is imported: names and docstrings are read from the sources.
"""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "src" / "headwater"

REFERENCE = {
    "The store": (
        "`FeatureStore` and `AsyncFeatureStore`, and the engine that is given a session of Spark.",
        ["FeatureStore", "AsyncFeatureStore", "SparkOfflineEngine"],
    ),
    "Clients": (
        "A store behind a server: `Client` and `AsyncClient`, and what they prepare.",
        ["Client", "AsyncClient", "RemoteReader", "AsyncRemoteReader"],
    ),
    "Definitions": (
        "Entities, features, views, services, and the sources that they read.",
        [
            *("Entity", "Feature", "Aggregation", "FeatureKind", "FeatureView", "FeatureSelection", "FeatureService"),
            *("on_demand", "OnDemandFeatureView", "RequestField"),
            *("ParquetSource", "CSVSource", "JSONSource", "SQLSource", "TableSource", "PushSource", "TransformSource"),
            "SparkSource",
            "transform",
        ],
    ),
    "Dtypes and enums": (
        "The dtypes of features and join keys, and the closed sets of values that arguments and results use.",
        [
            *("Bool", "Int32", "Int64", "Float32", "Float64", "String", "Bytes", "Timestamp", "Date"),
            *("Array", "Embedding", "Status", "StalePolicy", "ConsistencyLevel", "WriteTarget"),
        ],
    ),
    "Reads": (
        "What reads return: training sets, online results and prepared readers.",
        [
            *("HistoryResult", "HistoryMetadata", "ViewCounts", "OnlineResult", "FeatureVector"),
            *("PreparedReader", "AsyncPreparedReader", "Explained", "Session"),
        ],
    ),
    "Training sets": (
        "Training sets that were saved: their rows, their parts, and what a check of one finds.",
        [
            *("TrainingSet", "TrainingRows", "TrainingSetReport", "TrainingSetVerdict"),
            *("ChangedColumn", "InputChange", "InputChangeKind", "Model", "LoggedModel", "mlflow"),
        ],
    ),
    "Reports": (
        "What plan, apply, write, delete, materialize, status and verify return.",
        [
            *(
                "Plan",
                "Stage",
                "ViewInfo",
                "ServiceInfo",
                "ViewSummary",
                "ServiceSummary",
                "WriteReport",
                "DeleteReport",
                "EraseReport",
            ),
            *("MaterializeReport", "RunReport", "StoreStatus", "VersionStatus", "RefreshStatus", "VerifyReport"),
            *("Damage", "ClockRepairReport", "Worker", "WorkerReport", "Step", "Dead"),
        ],
    ),
    "Monitoring": (
        "What a store promises, measured.",
        ["FeatureConsistencyManager", "Propagation", "freshness", "skew"],
    ),
    "Advisor": (
        "Which feature store fits stated requirements.",
        [
            *("FeatureStoreArchitectureComparator", "FeatureStoreComponent", "FeatureStoreType", "Requirements"),
            *("ArchitectureComparison", "ArchitectureScore", "Analysis", "Fit", "Verdict", "Sensitivity"),
            *("WeightChange", "Span", "Measurement", "MeasuredFeatures", "MeasuredFigure"),
        ],
    ),
    "Errors": ("The tree of errors.", ["errors"]),
    "Stores and engines": (
        "What an online store or an offline engine of your own implements, and the suites that prove it.",
        ["OnlineStore", "OfflineEngine", "testing"],
    ),
}
"""Title → what the page says first, and the names on it: public classes, values and modules of `headwater`."""


def on_config(config):
    """Put the generated pages into the navigation."""
    decisions = sorted(path.name for path in (ROOT / "docs" / "decisions").glob("*.md") if path.name > "001")
    for section in config.nav:
        if "API reference" in section:
            section["API reference"] = [{title: _page(title)} for title in REFERENCE]
        for item in section.get("How it is built", ()):
            if isinstance(item, dict) and "Decisions" in item:
                item["Decisions"] = ["decisions/index.md", *(f"decisions/{name}" for name in decisions)]
    return config


def on_files(files, config):
    """Add the generated pages."""
    from mkdocs.structure.files import File  # not installed in the development environment, where tests read this file

    made = {
        "index.md": _start(),
        "changelog.md": (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
        "benchmarks.md": (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8"),
        "decisions/index.md": _decisions(),
    }
    made |= reference()
    for path, text in made.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown, page, config, files):
    """Links to files that the site does not have become plain text; README's links lead into the site."""
    if page.file.src_uri in ("index.md", "changelog.md", "benchmarks.md"):
        markdown = re.sub(r"\]\((?:\.\./)?docs/decisions/\)", "](decisions/index.md)", markdown)
        markdown = re.sub(r"\]\((?:\.\./)?docs/", "](", markdown)
    markdown = re.sub(r"\]\((?:\.\./)?benchmarks/RESULTS\.md", "](benchmarks.md", markdown)
    return re.sub(r"\[([^\]]+)\]\((?:\.\./)+[^)]*\)", r"\1", markdown)


def reference():
    """Path → Markdown of the pages of the API reference.

    Raises:
        ValueError: a public name that no page has, or a name on a page that is not defined.
    """
    names = public_names()
    listed = [name for _, on_page in REFERENCE.values() for name in on_page]
    missing = sorted(set(names) - set(listed) - set(_errors()))
    if missing:
        raise ValueError(f"REFERENCE in scripts/site_pages.py lacks public names: {', '.join(missing)}")
    pages = {}
    for title, (first, on_page) in REFERENCE.items():
        lines = [f"# {title}", "", first, ""]
        for name in on_page:
            lines += [f"::: {names.get(name) or _defined(name)}", ""]
        pages[_page(title)] = "\n".join(lines)
    return pages


def _page(title):
    return f"reference/{title.lower().replace(' ', '-')}.md"


def _start():
    return (ROOT / "README.md").read_text(encoding="utf-8")


def _decisions():
    lines = [
        "# Decisions",
        "",
        "Decisions worth arguing about, each with the alternatives and what would change it.",
        "",
    ]
    for path in sorted((ROOT / "docs" / "decisions").glob("*.md")):
        if path.name > "001":
            title = path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
            lines.append(f"- [{title}]({path.name})")
    return "\n".join(lines) + "\n"


def public_names():
    """Public name → its dotted path, from the table in `headwater/__init__.py`."""
    paths = {}
    for node in ast.parse((SOURCES / "__init__.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "_DOOR":
            paths |= {name: f"headwater.{module}.{name}" for name, module in ast.literal_eval(node.value).items()}
        elif isinstance(node, ast.Assign) and node.targets[0].id == "_MODULES":
            paths |= {name: f"headwater.{name}" for name in ast.literal_eval(node.value)}
    return paths


def is_made(path):
    """Whether a dotted path is a class that is made by calling it; members of an enumeration are not, nor protocols."""
    module, _, name = path.rpartition(".")
    file = SOURCES.joinpath(*module.split(".")[1:]).with_suffix(".py")
    if not file.is_file() or module == "headwater.errors":
        return False
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return not any(re.search("Enum|Protocol|ABC", ast.unparse(base)) for base in node.bases)
    return False


def _errors():
    """The names of the errors, which stand on their module's page."""
    tree = ast.parse((SOURCES / "errors.py").read_text(encoding="utf-8"))
    return [node.name for node in tree.body if isinstance(node, ast.ClassDef)]


def _defined(name):
    """The dotted path of a class that results or arguments have and that is not a public name itself."""
    found = []
    for path in SOURCES.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if re.search(rf"^class {name}\b", text, re.MULTILINE):
            found.append(".".join(["headwater", *path.relative_to(SOURCES).with_suffix("").parts]))
    if len(found) != 1:
        raise ValueError(f"class {name} (REFERENCE in scripts/site_pages.py) is defined in {found or 'no module'}")
    return f"{found[0].removesuffix('.__init__')}.{name}"
