#!/usr/bin/env python3
"""Says what is wrong with an archive for PGXN, one line each: check_archive.py ARCHIVE.ZIP

META.json must be as the PGXN Meta Spec 1.0.0 has it, name files that are in the archive, and agree with
the control file. The exit code is 1 if anything is wrong.
"""
import json
import re
import sys
import zipfile

LICENSES = """agpl_3 apache_1_1 apache_2_0 artistic_1 artistic_2 bsd freebsd gfdl_1_2 gfdl_1_3 gpl_1 gpl_2 gpl_3
    lgpl_2_1 lgpl_3_0 mit mozilla_1_0 mozilla_1_1 openssl perl_5 postgresql qpl_1_0 ssleay sun zlib
    open_source restricted unrestricted unknown""".split()
REQUIRED = ["name", "version", "abstract", "maintainer", "license", "provides", "meta-spec"]
OPTIONAL = ["description", "generated_by", "no_index", "prereqs", "release_status", "resources", "tags"]
PHASES = ["configure", "build", "runtime", "test", "develop"]
RELATIONS = ["requires", "recommends", "suggests", "conflicts"]
SEMVER = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?")
TERM = re.compile(r"[^\s/\\:\x00-\x1f\x7f]{2,}")
URL = re.compile(r"[a-z][a-z+]*://[^\s/]+\.[^\s]+")


def is_text(value):
    return isinstance(value, str) and value.strip() != ""


def is_texts(value):
    """One text, or a list of at least one."""
    return is_text(value) or isinstance(value, list) and value != [] and all(map(is_text, value))


def is_version(value):
    return isinstance(value, str) and SEMVER.fullmatch(value) is not None


class Checker:
    def __init__(self, archive):
        self.problems = []
        self.files = set(archive.namelist())
        top = {name.split("/")[0] for name in self.files}
        if len(top) != 1:
            raise ValueError(f"the archive has {len(top)} directories at its top; PGXN wants one")
        self.top = top.pop()
        self.meta = json.loads(archive.read(f"{self.top}/META.json"))
        self.archive = archive

    def expect(self, condition, problem):
        if not condition:
            self.problems.append(problem)

    def has(self, path, where):
        self.expect(is_text(path) and f"{self.top}/{path}" in self.files, f"{where} names {path!r}, which is not in the archive")

    def keys(self, value, where, required, optional):
        """Whether it is an object; that it has the keys that it must have, and no others."""
        if not isinstance(value, dict):
            self.problems.append(f"{where} is not an object")
            return False
        for key in required:
            self.expect(key in value, f"{where} lacks {key!r}")
        for key in value:
            self.expect(key in required or key in optional or key.lower().startswith("x_"), f"{where} has {key!r}, which the specification does not know")
        return True

    def check(self):
        meta = self.meta
        if not self.keys(meta, "META.json", REQUIRED, OPTIONAL):
            return
        name, version = meta.get("name"), meta.get("version")
        self.expect(isinstance(name, str) and TERM.fullmatch(name), f"the name {name!r} is too short, or has spaces or slashes")
        self.expect(is_version(version), f"the version {version!r} is not of the form 1.2.3")
        self.expect(self.top == f"{name}-{version}", f"the archive's directory is {self.top}, not {name}-{version}")
        self.expect(is_text(meta.get("abstract")), "the abstract is empty")
        self.expect(is_texts(meta.get("maintainer")), "the maintainer is empty")
        for text in ("description", "generated_by"):
            self.expect(text not in meta or is_text(meta[text]), f"the {text} is empty")
        licenses = meta.get("license")
        if isinstance(licenses, dict):
            self.expect(licenses and all(isinstance(url, str) and URL.fullmatch(url) for url in licenses.values()), "a license has no address")
        else:
            for license in licenses if isinstance(licenses, list) else [licenses]:
                self.expect(license in LICENSES, f"the specification does not know the license {license!r}")
        status = meta.get("release_status", "stable")
        self.expect(status in ("stable", "testing", "unstable"), f"release_status is {status!r}")
        self.expect("tags" not in meta or isinstance(meta["tags"], list) and is_texts(meta["tags"]), "tags is not a list of texts")
        if self.keys(meta.get("meta-spec"), "meta-spec", ["version"], ["url"]):
            self.expect(meta["meta-spec"].get("version") == "1.0.0", "meta-spec is not version 1.0.0")
        self.check_provides(meta.get("provides"), version)
        self.check_prereqs(meta.get("prereqs", {}))
        self.check_resources(meta.get("resources", {}))

    def check_provides(self, provides, version):
        self.expect(isinstance(provides, dict) and provides, "provides names no extension")
        for name, extension in (provides.items() if isinstance(provides, dict) else []):
            where = f"provides.{name}"
            if not self.keys(extension, where, ["file", "version"], ["abstract", "docfile"]):
                continue
            self.has(extension.get("file"), f"{where}.file")
            if "docfile" in extension:
                self.has(extension["docfile"], f"{where}.docfile")
            self.expect(is_version(extension.get("version")), f"{where}.version is not of the form 1.2.3")
            self.check_control(name, extension, version)

    def check_control(self, name, extension, version):
        directory = re.match(r"(.*/)?sql/", extension["file"]) if is_text(extension.get("file")) else None
        directory = directory[1] or "" if directory else ""
        try:
            control = self.archive.read(f"{self.top}/{directory}{name}.control").decode()
        except KeyError:
            self.problems.append(f"the archive has no {directory}{name}.control")
            return
        default = re.search(r"^default_version *= *'([^']*)'", control, re.M)
        found = default and default[1]
        self.expect(extension.get("version") == found == version,
                    f"the versions differ: {name}.control has {found!r}, provides {extension.get('version')!r}, META.json {version!r}")
        self.expect(extension.get("file") == f"{directory}sql/{name}--{found}.sql", f"provides.{name}.file is not the script of version {found}")

    def check_prereqs(self, prereqs):
        if not self.keys(prereqs, "prereqs", [], PHASES):
            return
        for phase, relations in prereqs.items():
            if not self.keys(relations, f"prereqs.{phase}", [], RELATIONS):
                continue
            for relation, needed in relations.items():
                where = f"prereqs.{phase}.{relation}"
                self.expect(isinstance(needed, dict) and needed, f"{where} names nothing")
                for name, version in (needed.items() if isinstance(needed, dict) else []):
                    self.expect(version in (0, "0") or is_version(version), f"{where}.{name} is {version!r}, neither 0 nor of the form 1.2.3")

    def check_resources(self, resources):
        if not self.keys(resources, "resources", [], ["homepage", "bugtracker", "repository"]):
            return
        addresses = {"resources.homepage": resources.get("homepage")}
        for part, known in (("bugtracker", ["web", "mailto"]), ("repository", ["url", "web", "type"])):
            if part in resources and self.keys(resources[part], f"resources.{part}", [], known):
                addresses.update({f"resources.{part}.{key}": resources[part].get(key) for key in ("url", "web")})
        for where, address in addresses.items():
            self.expect(address is None or isinstance(address, str) and URL.fullmatch(address), f"{where} is no address: {address!r}")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__.splitlines()[0])
    try:
        with zipfile.ZipFile(sys.argv[1]) as archive:
            checker = Checker(archive)
            checker.check()
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        sys.exit(f"{sys.argv[1]}: {error}")
    print("\n".join(checker.problems), end="\n" if checker.problems else "")
    sys.exit(1 if checker.problems else 0)


main()
