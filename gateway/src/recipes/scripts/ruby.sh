# Ruby: into the system's gems, as Bundler finds them by the base's own GEM_HOME.
has ruby && has bundle || unsupported 'the base has no ruby and bundle on its path; use a Ruby runtime that has both.'

# A copy, because Bundler writes its lock file beside it.
cp "$file" "$work/Gemfile"
export BUNDLE_GEMFILE="$work/Gemfile" BUNDLE_APP_CONFIG="$work/bundle-config" BUNDLE_PATH__SYSTEM=true BUNDLE_SILENCE_ROOT_WARNING=1
ruby -c "$file" >/dev/null || invalid 'Gemfile is not valid Ruby; mend the file and send it again.'
bundle install
rm -rf "$(gem environment gemdir)/cache"
