export default function afterPack(context: { appOutDir: string }): void;
