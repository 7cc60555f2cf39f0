# PHP: into the vendor folder that the runtime copies beside an action which brings none of its own.
has php && has composer || unsupported 'the base has no php and composer on its path; use a PHP runtime that has both.'

# Each runtime has one of these written into its compile script: from 8.4 on, and up to 8.3.
for home in /app/.composer /phpAction/composer ''; do
    [ -n "$home" ] || unsupported 'the base has neither /app/.composer nor /phpAction/composer, where a PHP runtime looks for packages; use a PHP runtime as the base.'
    [ ! -d "$home" ] || break
done

# The requirements join the base's own. Autoload rules and scripts are left out: they belong to sources that aren't here.
cat >"$work/merge.php" <<'PHP'
<?php
[, $file, $path] = $argv;
set_exception_handler(function ($error) { echo $error->getMessage(), "\n"; exit(1); });
$read = fn ($path) => json_decode(file_get_contents($path), true, 512, JSON_THROW_ON_ERROR);
$wanted = $read($file);
if (!is_array($wanted) || ($wanted && array_is_list($wanted))) throw new Exception('not an object');

$base = is_file($path) ? $read($path) : [];
$merged = array_diff_key($wanted, array_flip(['autoload', 'autoload-dev', 'scripts', 'bin', 'require-dev'])) + $base;
foreach (['require', 'config'] as $section) {
    // An object even where it is empty: PHP has one type for both of JSON's.
    $merged[$section] = (object) (($wanted[$section] ?? []) + ($base[$section] ?? []));
}
unset($merged['config']->{'vendor-dir'});
$repositories = array_merge($wanted['repositories'] ?? [], $base['repositories'] ?? []);
if ($repositories) $merged['repositories'] = $repositories;
file_put_contents($path, json_encode($merged, JSON_PRETTY_PRINT | JSON_UNESCAPED_SLASHES | JSON_UNESCAPED_UNICODE) . "\n");
PHP
php "$work/merge.php" "$file" "$home/composer.json" ||
    invalid 'composer.json is not a JSON object; mend the file and send it again.'

# As root, Composer leaves out the plugins that the file allows unless told that root is meant.
export COMPOSER_ALLOW_SUPERUSER=1
composer update --working-dir="$home" --no-dev --no-scripts --no-interaction --no-progress --prefer-dist --optimize-autoloader
rm -f "$home/composer.lock"
