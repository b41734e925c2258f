/** The bundler embeds a file, with all it imports, as the text of one script (`build.mjs`). */
declare module '*?bundled' {
  const text: string;
  export default text;
}
