#!/bin/sh
# Creates the tickets of the handoff. Run it in a clone, logged in to gh; it can be run again.
set -eu

label() { gh label create "$1" --force >/dev/null; }

milestone() { # title, day
  gh api --paginate 'repos/{owner}/{repo}/milestones?state=all' --jq '.[].title' | grep -qxF "$1" ||
    gh api 'repos/{owner}/{repo}/milestones' -f title="$1" -f due_on="$2T17:00:00Z" >/dev/null
}

ticket() { # marker, title, milestone, label; the text comes from standard input
  there=$(gh issue list --state all --search "\"$1\" in:body" --json number --jq '.[].number')
  if [ -n "$there" ]; then
    echo "#$there is there already: $2"
    cat >/dev/null
  else
    gh issue create --title "$2" --milestone "$3" --label handoff --label "$4" --body-file -
  fi
}
