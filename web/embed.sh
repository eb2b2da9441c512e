#!/bin/bash
# Makes an assembler file of the page's files, which holds each of them as it is and compressed.
#
#   embed.sh DIRECTORY OUTPUT
set -euo pipefail

dist=$1
output=$2 # made when it would be another one
if [[ ! -f $dist/index.html ]]; then
    echo "error: $dist/index.html is missing: \"make page\" at the top builds it" >&2
    exit 1
fi
# Names of the compressed files are those of their contents, so that the output tells every change.
packed=${output%/*}/packed
mkdir -p "$packed"

# A text in read-only data, with labels around it: bytes LABEL DIRECTIVE...
bytes() { printf '%s:\n%s\n%s_end:\n' "$1" "$2" "$1"; }
# A std::string_view of what is between two labels.
view() { printf '    .quad %s_end - %s\n    .quad %s\n' "$1" "$1" "$1"; }

mapfile -t files < <(cd "$dist" && find . -type f ! -name '*.map' -printf '%P\n' | LC_ALL=C sort)
{
    echo '    .section .rodata'
    for i in "${!files[@]}"; do
        file=$dist/${files[i]}
        sum=$(sha256sum "$file" | cut -c1-20)
        gzip -9nc "$file" >"$packed/$sum.gz"
        bytes ".Lname$i" "    .ascii \"${files[i]}\""
        bytes ".Letag$i" "    .ascii \"\\\"$sum\\\"\""
        bytes ".Lplain$i" "    .incbin \"$file\""
        bytes ".Lgzip$i" "    .incbin \"$packed/$sum.gz\""
    done
    echo '    .section .data.rel.ro, "aw"'
    echo '    .balign 8'
    echo 'assets:'
    for i in "${!files[@]}"; do
        for part in name etag plain gzip; do
            view ".L$part$i"
        done
    done
    printf '    .globl _ZN8backfill3web7kAssetsE\n_ZN8backfill3web7kAssetsE:\n    .quad assets\n'
    printf '    .globl _ZN8backfill3web11kAssetCountE\n_ZN8backfill3web11kAssetCountE:\n    .quad %s\n' "${#files[@]}"
    echo '    .section .note.GNU-stack, "", @progbits'
} >"$output.new"
if cmp -s "$output.new" "$output"; then
    rm "$output.new"
else
    mv "$output.new" "$output"
fi
